"""What a comparison compares: an initializer, and in what the protocol beside it is not the report's.

An ``Arm`` is a value: two cells are of one arm if their arms are equal.  It joins tables and chooses
colors; its ``label`` is for people and is never read back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from empirical.architectures import BRANCH_SCALES
from empirical.protocol import AUGMENTED, COURSE_REPORT
from theory.errors import RequestError
from theory.initializers import parse_initializer

Change = tuple[str, Any]  # a field of the protocol, and its value where that is not the report's

NAMES: Mapping[str, str] = {  # as they are written in texts and pictures
    "relu": "ReLU",
    "prelu": "PReLU",
    "he": "He",
    "xavier": "Xavier",
    "normal": "N(0, 1)",
    "lecun": "LeCun",
    "pytorch": "PyTorch's",
}

_WORDS: Mapping[str, Callable[[Any], str]] = {
    "norm": lambda norm: "no batch norm" if norm == "none" else f"{norm} norm",
    "fan": str,
    "head_fan": "head {}".format,
    "head_initializer": "head {}".format,
    "learning_rate_reference": "{}'s relative steps".format,
    "depth": "{} layers".format,
    "filters": "{} filters".format,
    "pool_every": "pools every {} layers".format,
    "gain_slope": "gain slope {:g}".format,
    "optimizer": lambda name: {"sgd": "SGD", "adam": "Adam"}.get(name, name),
    "precision": str,
    "augment": AUGMENTED.__getitem__,
    "network": str,
    "branch_scale": BRANCH_SCALES.__getitem__,
}


@dataclass(frozen=True)
class Arm:
    """An initializer and its ``changes`` to the course report's protocol, in the protocol's order.

    >>> Arm("normal", (("head_initializer", "he"),)).label
    'normal, head he'
    """

    initializer: str
    changes: tuple[Change, ...] = ()

    @classmethod
    def of(cls, config: Mapping[Any, Any], ignoring: Iterable[str] = ()) -> Arm:
        """The arm of a cell with the fields of ``config``: a spec's, or of a table, whose NaN is None.

        A fan mode counts only where a law has one.

        >>> Arm.of({"initializer": "normal", "fan": "fan_in", "epochs": 3}, ignoring=["epochs"])
        Arm(initializer='normal', changes=())
        """
        left_out = {"engine", *ignoring, *_fans_without_effect(config)}
        return cls(
            str(config["initializer"]),
            tuple(
                (name, _as_in_a_spec(config[name], printed))
                for name, printed in COURSE_REPORT.shared().items()
                if name in config and name not in left_out and not same(config[name], printed)
            ),
        )

    @property
    def words(self) -> tuple[str, ...]:
        """Each change ``in_words``."""
        return tuple(in_words(*change) for change in self.changes)

    @property
    def variant(self) -> str:
        """The changes alone; "" for the protocol as printed."""
        return ", ".join(self.words)

    @property
    def label(self) -> str:
        """The initializer and the changes."""
        return ", ".join([self.initializer, *self.words])

    def __str__(self) -> str:
        return self.label

    def __lt__(self, other: Arm) -> bool:
        return self.label < other.label

    def without(self, shared: Iterable[Change]) -> Arm:
        """The same arm where the changes ``shared`` go without saying."""
        unsaid = set(shared)
        return Arm(self.initializer, tuple(one for one in self.changes if one not in unsaid))


def in_words(name: str, value: Any) -> str:
    """A field's value in a few words.

    >>> in_words("filters", 16), in_words("batch_size", 128)
    ('16 filters', 'batch size 128')
    """
    return _WORDS.get(name, (name.replace("_", " ") + " {}").format)(value)


def shared_changes(arms: Iterable[Arm]) -> set[Change]:
    """The changes that all of ``arms`` make."""
    sets = [set(arm.changes) for arm in arms]
    return set.intersection(*sets) if sets else set()


def _fans_without_effect(config: Mapping[Any, Any]) -> list[str]:
    own, head, reference = (
        config.get(name) for name in ("initializer", "head_initializer", "learning_rate_reference")
    )
    counts = {
        "fan": any(map(_has_free_fan, (own, head, reference))),
        "head_fan": _has_free_fan(head, own),
    }
    return [name for name, does in counts.items() if not does]


def _has_free_fan(name: object, otherwise: object = None) -> bool:
    """Whether the initializer called ``name``, or ``otherwise`` if that is missing, has a fan mode."""
    chosen = name if isinstance(name, str) else otherwise
    try:
        return isinstance(chosen, str) and parse_initializer(chosen).law.free_fan
    except RequestError:  # a table may name what this version does not know
        return False


def _as_in_a_spec(value: Any, printed: Any) -> Any:
    """A whole number of a column in which some are missing, which makes floats of it."""
    whole = isinstance(value, float) and value.is_integer() and not isinstance(printed, float)
    return int(value) if whole else value


def same(one: object, two: object) -> bool:
    """Equal, or both missing: a table has NaN where a spec has None."""
    return one == two or (two is None and one != one)
