"""Pitfalls of hooks, each as a test."""

import pytest
import torch
from torch import nn

from theory.errors import RequestError
from theory.probe import Probe, at_gradient, moments
from theory.randomness import generator


def inputs(*shape):
    return torch.randn(*shape, generator=generator(0, "inputs"))


def small(*, inplace=False):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Linear(5, 7), nn.ReLU(inplace=inplace), nn.Linear(7, 6), nn.ReLU(inplace=inplace)
        )


def hooks_left(model):
    return sum(
        len(module._forward_hooks) + len(module._forward_pre_hooks) + len(module._backward_hooks)
        for module in model.modules()
    )


def test_reads_the_moments_of_outputs_and_of_their_gradients():
    model, x = small(), inputs(4, 5)
    with Probe(model, backward=True) as probe:
        model(x).square().sum().backward()
    y1 = model[0](x).detach().requires_grad_()
    y2 = model[2](torch.relu(y1))
    y2.retain_grad()
    torch.relu(y2).square().sum().backward()
    for reading, y in zip(probe.readings, (y1, y2), strict=True):
        for name, value in moments(y.detach()).items():
            torch.testing.assert_close(reading.forward[name], value)
        for name, value in moments(y.grad).items():
            torch.testing.assert_close(reading.backward[name], value)
    assert list(probe.table()["module"]) == ["0", "2"]
    assert (probe.table()["gradient_second_moment"] > 0).all()


def test_moments_are_numpys():
    y = inputs(6, 4, 3) + 2
    values = y.double().numpy()
    whole, kept = moments(y), moments(y, keep=(1,))
    assert float(whole["second_moment"]) == pytest.approx((values**2).mean())
    assert float(whole["mean"]) == pytest.approx(values.mean())
    assert float(whole["variance"]) == pytest.approx(values.var())
    assert kept["variance"].numpy() == pytest.approx(
        (values**2).mean((0, 2)) - values.mean((0, 2)) ** 2
    )


def test_the_gradient_is_what_a_full_backward_hook_sees():
    model, seen = small(), {}
    handles = [
        module.register_full_backward_hook(
            lambda module, grads, outs, name=name: seen.update({name: outs[0]})
        )
        for name, module in model.named_children()
        if isinstance(module, nn.Linear)
    ]
    with Probe(model, backward=True) as probe:
        model(inputs(4, 5).requires_grad_()).sum().backward()
    for handle in handles:
        handle.remove()
    for reading in probe.readings:
        expected = moments(seen[reading.module])
        assert torch.equal(reading.backward["second_moment"], expected["second_moment"])


def test_an_in_place_relu_changes_nothing_that_is_read():
    tables = []
    for inplace in (False, True):
        model = small(inplace=inplace)
        with Probe(model, backward=True) as probe:
            model(inputs(4, 5)).sum().backward()
        tables.append(probe.table())
    assert tables[0].equals(tables[1])


def test_it_reads_in_float64():
    layer = nn.Linear(1, 1, bias=False)
    nn.init.constant_(layer.weight, 1e30)  # the square overflows float32
    with Probe(layer) as probe:
        layer(torch.ones(3, 1))
    assert probe.readings[0].forward["second_moment"].item() == pytest.approx(1e60, rel=1e-6)


def test_a_shared_module_reports_every_call():
    layer = nn.Linear(5, 5)
    model = nn.Sequential(layer, nn.ReLU(), layer, nn.ReLU(), nn.Sequential(layer))
    with Probe(model, backward=True) as probe:
        model(inputs(2, 5)).sum().backward()
    assert [(r.module, r.call) for r in probe.readings] == [("0", 0), ("0", 1), ("0", 2)]
    assert all(reading.backward is not None for reading in probe.readings)


def test_nested_modules_go_by_their_dotted_names():
    model = nn.Sequential(nn.Sequential(nn.Sequential(nn.Linear(5, 5))), nn.Linear(5, 2))
    with Probe(model) as probe:
        model(inputs(2, 5))
    assert [reading.module for reading in probe.readings] == ["0.0.0", "1"]


def test_kept_dimensions_give_one_number_each():
    model, x = nn.Linear(5, 3), inputs(4, 5)
    with Probe(model, keep=(0,)) as probe:
        y = model(x)
    torch.testing.assert_close(
        probe.readings[0].forward["second_moment"], y.detach().double().square().mean(1)
    )


@pytest.mark.parametrize("fails", [False, True])
def test_nothing_is_left_behind_even_when_the_model_raises(fails):
    model = nn.Sequential(nn.Linear(5, 5), nn.Dropout(), nn.BatchNorm1d(5), nn.Linear(5, 2))
    model[1].eval()  # a mixed state, to be restored as it was
    modes = [module.training for module in model.modules()]
    try:
        with Probe(model, backward=True, mode="eval"):
            assert not any(module.training for module in model.modules())
            output = model(inputs(3, 4 if fails else 5))
            assert not fails and output is not None
    except RuntimeError:
        assert fails
    assert hooks_left(model) == 0
    assert [module.training for module in model.modules()] == modes


def test_a_gradient_hook_does_not_outlive_the_block():
    model = small()
    with Probe(model, backward=True) as probe:
        loss = model(inputs(2, 5)).sum()
    loss.backward()
    assert all(reading.backward is None for reading in probe.readings)
    assert "gradient_second_moment" not in probe.table()


def test_no_activation_is_retained():
    import gc
    import weakref

    model, kept = nn.Sequential(nn.Linear(5, 5), nn.Linear(5, 5)), []
    with Probe(model) as probe:
        handle = model[0].register_forward_hook(lambda m, i, o: kept.append(weakref.ref(o)))
        model(inputs(2, 5))
    handle.remove()
    gc.collect()
    assert len(probe.readings) == 2 and kept[0]() is None


def test_without_a_graph_there_is_no_gradient():
    model = small()
    with Probe(model, backward=True) as probe, torch.no_grad():
        model(inputs(2, 5))
    assert [reading.backward for reading in probe.readings] == [None, None]


def test_where_it_cannot_read_it_says_so():
    with pytest.raises(RequestError, match=r"returned tuple.*select="):
        model = nn.LSTM(4, 4)
        with Probe(model, lambda name, module: isinstance(module, nn.LSTM)):
            model(inputs(2, 3, 4))
    assert hooks_left(model) == 0
    with pytest.raises(RequestError, match="no module called 'nope'"):
        Probe(small(), ["nope"])
    with pytest.raises(RequestError, match="found no module"):
        Probe(nn.ReLU())
    with pytest.raises(RequestError, match="mode must be"):
        Probe(small(), mode="test")


@pytest.mark.filterwarnings("ignore:.*torch.jit:Warning")
def test_a_compiled_script_is_refused():
    scripted = torch.jit.script(nn.Sequential(nn.Linear(2, 2)))
    with pytest.raises(RequestError, match="is compiled"):
        Probe(scripted, lambda name, module: name == "0")


def test_a_probe_is_not_entered_twice():
    model = small()
    with Probe(model) as probe:
        model(inputs(1, 5))
        with pytest.raises(RequestError, match="open already"), probe:
            pass
    assert hooks_left(model) == 0


def test_a_compiled_model_is_refused_and_silence_is_named():
    compiled = torch.compile(small(), backend="eager")
    with pytest.raises(RequestError, match=r"is compiled \(OptimizedModule\)"):
        Probe(compiled)
    with pytest.raises(RequestError, match="read nothing"), Probe(small()):
        pass


def test_a_part_that_nothing_comes_back_to_is_passed_over():
    """What is cut out of a tensor, and not used, gets no gradient at all."""
    tensor, seen = torch.randn(2, 4, requires_grad=True), []
    used, unused = (tensor * 1).chunk(2, 1)
    for part in (used, unused):
        at_gradient(part, seen.append)
    used.sum().backward()
    assert len(seen) == 1 and seen[0].eq(1).all()
