"""Small trainings, in float64 where they are to be compared to the last digits."""

import torch
from cifar_format import tiny_dataset

from empirical.engines import groups
from empirical.engines.graphs import Batches
from empirical.engines.groups import GroupTraining
from empirical.protocol import StudySpec, TrainSpec
from empirical.study.grid import run_study
from empirical.training.loop import CellTraining

CPU = torch.device("cpu")
CUDA = torch.device("cuda")
TINY = {"filters": 3, "batch_size": 12, "epochs": 2}
DRAWS = (("he", 0), ("normal", 0), ("he", 1))


def cells(draws=DRAWS, **changes):
    drawn = [{"initializer": name, "seed": seed} for name, seed in draws]
    return [TrainSpec(**TINY | {"depth": 2, "engine": "eager"} | changes | own) for own in drawn]


class DoubleBatches(Batches):
    def __call__(self, *choice):
        images, labels = super().__call__(*choice)
        return images.double(), labels


def in_doubles(monkeypatch):
    """What gives trainings in float64, whatever runs their steps.

    A bias before batch norm has no gradient but rounding's, which Adam's ε of 1e-8 would let grow to
    whole steps: a larger ε keeps it as small as it is.
    """
    monkeypatch.setattr(groups, "Batches", DoubleBatches)
    single = CellTraining.gathered

    def gathered(*choice):
        images, labels = single(*choice)
        return images.double(), labels

    monkeypatch.setattr(CellTraining, "gathered", gathered)

    def widened(spec, data, device=CPU):
        training = CellTraining(spec, data, device)
        training.network.double()
        if spec.norm == "batch" and spec.optimizer == "adam":
            for group in training.optimizer.param_groups:
                group["eps"] = 1e-4
        return training

    return widened


def group_of(members):
    """Their stack, with their own optimizers' ε."""
    group = GroupTraining(members)
    for ours, own in zip(group.optimizer.param_groups, members[0].optimizer.param_groups, strict=True):
        ours.update({name: own[name] for name in ("eps",) if name in own})
    return group


def assert_alike(one, two, bound):
    """Networks, running statistics and moments of two trainings agree to ``bound``, relative."""
    pairs = list(zip(one.network.state_dict().items(), two.network.state_dict().values(), strict=True))
    ours, theirs = (training.optimizer.state_dict()["state"] for training in (one, two))
    assert ours.keys() == theirs.keys() and len(ours) == len(list(one.network.parameters()))
    for index, moments in ours.items():
        assert moments.keys() == theirs[index].keys()
        pairs += [((f"{index} {name}", moments[name]), theirs[index][name]) for name in moments]
    for (name, value), other in pairs:
        assert value.stride() == other.stride(), name  # fused optimizers pair numbers as they lie
        difference = (value.double() - other.double()).abs().max()
        assert difference <= bound * other.double().abs().max().clamp_min(1e-3), name


def tiny_study(out, **changes):
    small = {"initializers": ("he", "normal"), "activations": ("relu",), "depths": (2,), "filters": 3}
    small |= {"epochs": 2, "batch_size": 12, "device": "cpu", "engine": "stacked", "out": out}
    return StudySpec(**small | changes)


def run(spec, **options):
    events = []
    return run_study(spec, events.append, dataset=tiny_dataset(29, 8), **options), events
