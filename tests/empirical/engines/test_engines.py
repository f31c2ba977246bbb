"""Every engine against the modules: values, gradients, buffers, bits; and what is missing."""

import copy
import shutil
import sys

import pytest
import torch
from cifar_format import tiny_dataset
from torch import nn

from empirical.engines import choice as engines
from empirical.engines import fused
from empirical.engines.choice import CompiledEngine, Engine, FusedEngine, build_engine, choose
from empirical.engines.fused import FusedLayer, Unavailable, fused_forward, fused_layers, library
from empirical.protocol import ENGINES, TrainSpec
from empirical.training.loop import CellTraining, train_cell
from empirical.training.networks import SharedPReLU, build_network
from theory.errors import RequestError
from theory.probe import Probe

pytestmark = pytest.mark.usefixtures("one_thread")

CPU = torch.device("cpu")
ROUND = {torch.float32: 2.0**-24, torch.float64: 2.0**-53}


def kernels_or_reason():
    try:
        library()
    except Unavailable as reason:
        return str(reason)
    return None


missing = kernels_or_reason()
needs_kernels = pytest.mark.skipif(missing is not None, reason=str(missing))


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache folder, and no memory of earlier probes in this process."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    engines._choose.cache_clear()
    yield tmp_path / "fanin"
    engines._choose.cache_clear()


@pytest.fixture
def no_library(cache):
    """An empty cache folder, and no kernels loaded."""
    library.cache_clear()
    yield cache
    library.cache_clear()


def batches(count, size, dtype, seed=0):
    source = torch.Generator().manual_seed(seed)
    for _ in range(count):
        images = torch.randn(size, 3, 32, 32, generator=source, dtype=torch.float64).to(dtype)
        labels = torch.randint(10, (size,), generator=source)
        yield images.contiguous(memory_format=torch.channels_last), labels


def twins(name, spec, dtype=torch.float64, rate=0.02):
    """The reference and the engine ``name`` on equal networks; plain descent shows every gradient."""
    found = []
    network = build_network(spec).to(dtype).train()
    for kind in ("eager", name):
        copied = copy.deepcopy(network)
        optimizer = torch.optim.SGD(copied.parameters(), lr=rate)
        found.append(build_engine(kind, copied, optimizer, spec.precision))
    return found


def assert_same_state(one, two, bound):
    """Parameters and buffers, slopes and running statistics among them, relative to their size."""
    states = one.network.state_dict(), two.network.state_dict()
    assert states[0].keys() == states[1].keys()
    for name, tensor in states[0].items():
        other = states[1][name]
        if tensor.dtype == torch.int64:
            assert torch.equal(tensor, other), name
        else:
            assert (tensor - other).abs().max() <= bound * tensor.abs().max().clamp_min(1e-3), name


# 33 filters: two registers of float and one channel left over; 4: channels one by one.
@needs_kernels
@pytest.mark.parametrize("norm", ["batch", "none"])
@pytest.mark.parametrize("activation", ["relu", "prelu", "prelu:-0.5", "leaky-relu:0.1"])
@pytest.mark.parametrize(("depth", "filters"), [(1, 4), (2, 33), (5, 8), (12, 4)])
def test_fused_is_eager_in_float64(activation, norm, depth, filters):
    # With PReLU and no norm, steps of 0.02 diverge at this size: smaller ones, as many.
    rate = 0.02 if norm == "batch" else 1e-4
    spec = TrainSpec(activation=activation, norm=norm, depth=depth, filters=filters)
    reference, engine = twins("fused", spec, rate=rate)
    before = copy.deepcopy(reference.network.state_dict())
    for images, labels in batches(5, 10, torch.float64):
        expected, loss = reference.step(images, labels), engine.step(images, labels)
        assert torch.isfinite(expected)
        torch.testing.assert_close(loss, expected, rtol=1e-9, atol=0)
    assert_same_state(reference, engine, 1e-9)
    after = engine.network.state_dict()
    if depth < 12:  # where no layer is dead, all of it has learned
        assert all(not torch.equal(before[name], after[name]) for name in before)
    engine.network.load_state_dict(reference.network.state_dict())
    reference.network.eval(), engine.network.eval()
    with torch.no_grad():
        logits, expected = engine.forward(images), reference.forward(images)
    assert (logits - expected).abs().max() <= 1e-12 * expected.abs().max()
    assert_same_state(reference, engine, 0.0)  # eval leaves the running statistics alone


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs g++")
def test_compiled_is_eager_in_float64():
    reference, engine = twins("compiled", TrainSpec(activation="prelu", depth=3, filters=4))
    for images, labels in batches(3, 10, torch.float64):
        expected, loss = reference.step(images, labels), engine.step(images, labels)
        torch.testing.assert_close(loss, expected, rtol=1e-9, atol=0)
    assert_same_state(reference, engine, 1e-9)
    reference.network.eval(), engine.network.eval()
    torch.testing.assert_close(engine.forward(images), reference.forward(images), rtol=1e-9, atol=0)


def one_layer(activation, pool, norm, channels, dtype):
    """A layer whose convolution is the identity, so that its kernel sees the very map it is given."""
    layers = [nn.Identity()]
    if norm:
        layers.append(nn.BatchNorm2d(channels))
        with torch.no_grad():
            layers[-1].weight.copy_(torch.linspace(-1.5, 2, channels))
            layers[-1].bias.copy_(torch.linspace(0.5, -0.5, channels))
    layers.append(SharedPReLU(activation) if activation is not None else nn.ReLU())
    if pool:
        layers.append(nn.MaxPool2d(2))
    network = nn.Sequential(*layers, nn.Identity()).to(dtype)
    slope = None if activation is None else network[1 + norm].weight
    return network, [FusedLayer(network[0], network[1] if norm else None, slope, pool)]


def both_ways(forward, maps, cotangent, parameters):
    maps = maps.clone(memory_format=torch.preserve_format).requires_grad_()
    out = forward(maps * 1)  # the kernel overwrites its input, which must not be a leaf
    return out.detach(), *torch.autograd.grad(out, [maps, *parameters], cotangent)


@needs_kernels
@pytest.mark.parametrize("pool", [False, True])
@pytest.mark.parametrize("slope", [None, 0.25, -0.5])
@pytest.mark.parametrize("norm", [False, True])
def test_one_layer_in_float32_within_rounding(slope, pool, norm):
    source = torch.Generator().manual_seed(1)
    shape = (6, 20, 16, 16)  # a register of floats and four channels more
    maps = torch.randn(shape, generator=source) * 3 + torch.linspace(-50, 50, 20)[:, None, None]
    maps = maps.contiguous(memory_format=torch.channels_last)
    half = (6, 20, 8, 8) if pool else shape
    cotangent = torch.randn(half, generator=source)
    exact = one_layer(slope, pool, norm, 20, torch.float64)[0]
    network, layers = one_layer(slope, pool, norm, 20, torch.float32)
    expected = both_ways(exact, maps.double(), cotangent.double(), list(exact.parameters()))
    parameters = list(network.parameters())
    found = both_ways(lambda x: fused_forward(network, layers, x), maps, cotangent, parameters)
    # Elementwise: some ten roundings of terms as large as the shift of 50 beside a deviation of 3.
    # Sums over n terms: chunks of at most 512 in float32, each sum's error below its length.
    size = 3 * 50 if norm else 1
    assert (found[0] - expected[0]).abs().max() <= 10 * size * ROUND[torch.float32] * expected[
        0
    ].abs().max()
    for one, two in zip(found[1:], expected[1:], strict=True):
        assert one.shape == two.shape and one.dtype == torch.float32
        bound = 512 * ROUND[torch.float32] * two.abs().max()
        assert (one - two).abs().max() <= bound * (size if norm else 1) ** 0.5
    for one, two in zip(network.buffers(), exact.buffers(), strict=True):
        torch.testing.assert_close(one.double(), two.double(), rtol=1e-6, atol=1e-6)


@needs_kernels
def test_a_large_mean_does_not_spoil_the_variance():
    network, layers = one_layer(None, False, True, 4, torch.float32)
    source = torch.Generator().manual_seed(0)
    maps = 1000 + torch.randn(64, 4, 32, 32, generator=source)
    maps = maps.contiguous(memory_format=torch.channels_last)
    fused_forward(network, layers, maps)
    exact = maps.double().transpose(0, 1).flatten(1)
    # running values: a tenth of the batch's, and nine tenths of 0 and 1
    torch.testing.assert_close(
        network[1].running_var.double(), 0.9 + 0.1 * exact.var(1), rtol=1e-6, atol=0
    )
    torch.testing.assert_close(network[1].running_mean.double(), 0.1 * exact.mean(1), rtol=1e-6, atol=0)


@needs_kernels
@pytest.mark.parametrize("slope", [None, 0.25, -0.5])
def test_pooling_gives_ties_to_the_first_and_keeps_what_is_no_number(slope):
    source = torch.Generator().manual_seed(0)
    maps = torch.randint(-2, 3, (8, 17, 6, 10), generator=source).float()  # ties everywhere
    maps[3, 5, 2, 7] = maps[0, 16, 0, 0] = maps[1, 0, 5, 5] = torch.nan
    maps[2, 3, 1, 1] = torch.inf
    cotangent = torch.rand(8, 17, 3, 5, generator=source) + 1
    network, layers = one_layer(slope, True, False, 17, torch.float32)
    maps = maps.contiguous(memory_format=torch.channels_last)
    expected = both_ways(network, maps, cotangent, [])
    found = both_ways(lambda x: fused_forward(network, layers, x), maps, cotangent, [])
    assert expected[0].isnan().any()
    for one, two in zip(found, expected, strict=True):
        torch.testing.assert_close(one, two, rtol=0, atol=0, equal_nan=True)


@needs_kernels
@pytest.mark.parametrize("pool", [False, True])
# Three quarters of a bfloat16 often lies halfway between two of them.
@pytest.mark.parametrize("slope", [None, 0.75])
@pytest.mark.parametrize("norm", [False, True])
def test_bf16_maps_are_the_float32_ones_rounded_once(norm, slope, pool):
    source = torch.Generator().manual_seed(0)
    maps = torch.randn(5, 24, 8, 8, generator=source).bfloat16()
    maps = maps.contiguous(memory_format=torch.channels_last)
    cotangent = torch.randn(5, 24, *(2 * [4 if pool else 8]), generator=source).bfloat16()
    found = []
    for dtype in (torch.bfloat16, torch.float32):
        network, layers = one_layer(slope, pool, norm, 24, torch.float32)
        forward = lambda x, n=network, k=layers: fused_forward(n, k, x)  # noqa: E731
        found.append(
            both_ways(forward, maps.to(dtype), cotangent.to(dtype), list(network.parameters()))
        )
    assert torch.equal(found[0][0], found[1][0].bfloat16())  # to nearest, ties to even
    assert torch.equal(found[0][1], found[1][1].bfloat16())
    for one, two in zip(found[0][2:], found[1][2:], strict=True):
        assert torch.equal(one, two) and one.dtype == torch.float32


@needs_kernels
def test_the_number_of_threads_changes_no_bit():
    network, layers = one_layer(0.25, True, True, 20, torch.float32)
    source = torch.Generator().manual_seed(0)
    maps = torch.randn(13, 20, 16, 16, generator=source).contiguous(memory_format=torch.channels_last)
    cotangent = torch.randn(13, 20, 8, 8, generator=source)
    found = []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        forward = lambda x: fused_forward(network, layers, x)  # noqa: E731
        found.append(both_ways(forward, maps, cotangent, list(network.parameters())))
    for other in found[1:]:
        assert all(torch.equal(one, two) for one, two in zip(found[0], other, strict=True))


@needs_kernels
@pytest.mark.parametrize("activation", ["relu", "prelu"])
def test_fused_in_bf16_is_no_farther_from_the_truth_than_eager_in_bf16(activation):
    spec = TrainSpec(activation=activation, depth=5, filters=16, precision="bf16")
    reference, engine = twins("fused", spec, torch.float32)
    exact = copy.deepcopy(reference.network).double()
    images, _ = next(batches(1, 64, torch.float32))
    truth = exact(images.double())
    errors = []
    for one in (engine, reference):
        logits = one.forward(images)
        assert logits.dtype == torch.float32
        errors.append((logits - truth).square().mean().sqrt() / truth.square().mean().sqrt())
    # Its maps are rounded twice a layer, after the convolution and at the end, and eager's once more
    # (batch norm to activation); the weights' own rounding is common to both.
    assert 2**-10 < errors[0] < 1.1 * errors[1]


@needs_kernels
def test_a_graph_is_gone_back_through_once():
    network, layers = one_layer(None, False, False, 4, torch.float32)
    maps = torch.randn(2, 4, 2, 2, requires_grad=True)
    out = fused_forward(network, layers, maps * 1).sum()
    out.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="once"):
        out.backward()


@needs_kernels
def test_one_value_per_channel_is_refused_as_torch_does():
    network, layers = one_layer(None, False, True, 4, torch.float32)
    for forward in (network, lambda x: fused_forward(network, layers, x)):
        with pytest.raises(ValueError, match=r"more than (one|1) value per channel"):
            forward(torch.ones(1, 4, 1, 1))


@needs_kernels
def test_instruments_see_the_same_whatever_the_engine():
    shared = {"depth": 5, "activation": "prelu", "filters": 8, "epochs": 1, "batch_size": 32}
    eager, fast = (TrainSpec(engine=name, **shared) for name in ("eager", "fused"))
    state = train_cell(fast, tiny_dataset(), CPU)
    assert state.engine == "fused"
    drawn = CellTraining(eager, tiny_dataset(), CPU)
    drawn.look(0)
    assert drawn.initial == state.initial
    state.engine = "eager"  # the same network after its epoch, now looked at by the other
    learned = CellTraining(eager, tiny_dataset(), CPU, state)
    learned.look(1)
    rows = learned.layers[len(state.layers) :]
    assert len(rows) == len(drawn.layers) == len(state.layers) / 2 > 10
    for one, two in zip(drawn.layers + rows, state.layers, strict=True):
        assert {name: repr(value) for name, value in one.items()} == {
            name: repr(value) for name, value in two.items()
        }


@needs_kernels
def test_a_probe_reads_norms_while_a_cell_is_trained_by_the_fused_engine():
    training = CellTraining(TrainSpec(depth=3, filters=4, engine="fused"), tiny_dataset(), CPU)
    training.run_epoch()
    images, _ = next(batches(1, 8, torch.float32))
    with Probe(training.network, ["norm02", "norm03"], backward=True) as probe:
        training.forward(images).sum().backward()
    assert [reading.module for reading in probe.readings] == ["norm02", "norm03"]
    assert all(reading.backward is not None for reading in probe.readings)


@needs_kernels
def test_the_engine_of_a_cell_is_fixed_when_it_begins():
    spec = TrainSpec(filters=4, batch_size=32, engine="eager")
    state = CellTraining(spec, tiny_dataset(), CPU).state()
    assert state.engine == "eager"
    asked = TrainSpec(filters=4, batch_size=32, engine="fused")
    assert asked.cell_id == spec.cell_id
    assert CellTraining(asked, tiny_dataset(), CPU, state).state().engine == "eager"


def test_an_engine_that_is_gone_is_replaced_with_a_note():
    spec = TrainSpec(filters=4, batch_size=32, engine="eager")
    state = CellTraining(spec, tiny_dataset(), CPU).state()
    state.engine = "steam"
    resumed = CellTraining(spec, tiny_dataset(), CPU, state)
    assert resumed.engine.name == "eager"
    assert resumed.notes[0].startswith(
        "begun with the engine steam, which cannot run here (there is no"
    )


def test_an_engine_asked_for_by_name_is_had_or_refused():
    smooth = TrainSpec(activation="tanh", filters=4, batch_size=32, engine="fused")
    with pytest.raises(RequestError, match=r"fused cannot run here: .*use --engine auto"):
        CellTraining(smooth, tiny_dataset(), CPU)


@needs_kernels
def test_smooth_activations_are_left_to_torch(cache):
    with pytest.raises(Unavailable, match="Tanh"):
        fused_layers(build_network(TrainSpec(activation="tanh", depth=3)))
    assert choose(TrainSpec(activation="tanh", depth=2, filters=4), CPU) == "eager"


@needs_kernels
def test_auto_takes_the_faster_and_remembers(cache, monkeypatch):
    spec, asked = TrainSpec(depth=3, filters=4), []

    def probe(spec, device):
        asked.append(spec)
        return times

    monkeypatch.setattr(engines, "probe", probe)
    times = {"eager": 0.5, "fused": 1.0}
    assert choose(spec, CPU) == "eager" and len(asked) == 1
    assert choose(TrainSpec(depth=3, filters=4, initializer="normal", seed=3), CPU) == "eager"
    times = {"eager": 0.95, "fused": 1.0}  # not a tenth faster
    assert choose(TrainSpec(depth=4, filters=4), CPU) == "fused" and len(asked) == 2
    engines._choose.cache_clear()  # another process
    assert choose(spec, CPU) == "eager" and len(asked) == 2
    for file in cache.glob("engine-*"):
        file.write_bytes(b"\xff\xfe")
    engines._choose.cache_clear()
    assert choose(spec, CPU) == "fused" and len(asked) == 3


@needs_kernels
def test_the_probe_times_every_engine_and_changes_nothing_outside():
    before = torch.random.get_rng_state()
    seconds = engines.probe(TrainSpec(depth=2, filters=4, batch_size=8), CPU)
    assert seconds.keys() == {"eager", "fused"}
    assert all(0 < value < 10 for value in seconds.values())
    assert torch.equal(before, torch.random.get_rng_state())


@pytest.mark.parametrize("how", ["none", "broken"])
def test_without_a_compiler_auto_is_eager_and_says_so(no_library, monkeypatch, tmp_path, how):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    if how == "broken":
        monkeypatch.setenv("CXX", f"{sys.executable} -c pass")
        monkeypatch.setattr(fused, "SOURCE", tmp_path / "source.cpp")
        (tmp_path / "source.cpp").write_text("nonsense")
    training = CellTraining(TrainSpec(filters=4, batch_size=32), tiny_dataset(), CPU)
    assert training.engine.name == "eager"
    (note,) = training.notes
    assert note.startswith("run without the fused engine: ")
    if how == "none":
        assert "no C++ compiler" in note
        with pytest.raises(Unavailable, match=r"no C\+\+ compiler"):
            CompiledEngine(training.network, training.optimizer)
    training.run_epoch()
    assert training.epoch == 1


@needs_kernels
def test_a_source_that_does_not_compile_is_one_line_and_leaves_nothing(
    no_library, monkeypatch, tmp_path
):
    monkeypatch.setattr(fused, "SOURCE", tmp_path / "source.cpp")
    (tmp_path / "source.cpp").write_text("nonsense\nand more\n")
    with pytest.raises(Unavailable) as caught:
        library()
    assert "failed" in str(caught.value) and "\n" not in str(caught.value)
    assert list(no_library.iterdir()) == []


def test_a_cache_that_cannot_be_written_is_no_error(no_library, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert choose(TrainSpec(depth=2, filters=4), CPU) == "eager"


def test_every_engine_can_be_asked_for_and_no_other():
    assert set(ENGINES) == {"auto", *engines._ENGINES}
    with pytest.raises(RequestError, match="engine"):
        TrainSpec(engine="steam")
    network = build_network(TrainSpec(filters=4))
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    assert type(build_engine("eager", network, optimizer)) is Engine
    if missing is None:
        assert type(build_engine("fused", network, optimizer)) is FusedEngine
