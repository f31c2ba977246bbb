"""What an audit says of a network: findings, and the words and lines that its rules share.

Two kinds of rules.  *Effects* (``effects``) are measured: a signal or a gradient that is lost or blown
up between the references of ``network``, a first loss far above guessing, a residual stream that
outgrows its branches.  *Causes* are deviations of the weights themselves: of laws (``laws``,
``causes``) and of single tensors (``tensors``).  A cause is a warning only where it has an effect;
alone it is a note, or nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from theory.audit.fixes import Fix
    from theory.audit.network import Network, Weight
    from theory.audit.recognition import Recognized
    from theory.audit.stuck import Fate

ERROR, WARNING, NOTE = "error", "warning", "note"
SEVERITIES = (NOTE, WARNING, ERROR)
WARN, BREAK = 1e4, 1e8  # factors of second moments: of amplitudes 100 and 10,000
OFF = 1.4  # a factor per layer that is away from 1
LOCAL = 3.0  # a wrong factor that matters by itself, where no norm hides it
GROWN = 10.0  # growth of the stream of a pre-norm stack, unscaled
RECTIFIERS = frozenset("relu relu6 clamp clamp_min threshold".split())


@dataclass(frozen=True)
class Finding:
    """What is wrong, or looks so.

    code       one of the contract's
    severity   error (it will not train like this), warning (it costs), note (good to know)
    modules    where
    message    one sentence
    evidence   the numbers behind it; after the fix was tried, ``before`` and ``after``, and ``of`` what
    fix        one line of code, or None
    """

    code: str
    severity: str
    modules: tuple[str, ...]
    message: str
    evidence: dict[str, Any]
    fix: str | None = None
    cure: Fix | None = field(default=None, repr=False, compare=False)

    def as_dict(self) -> dict[str, Any]:
        """What the contract's JSON says of a finding."""
        keys = ("code", "severity", "modules", "message", "evidence", "fix")
        return {key: getattr(self, key) for key in keys}


@dataclass(frozen=True)
class Loss:
    """Cross-entropy of the untrained network, in nats per example, labels uniform over ``classes``."""

    predicted: float
    measured: float
    guessing: float
    classes: int
    logit_variance: float
    heads: tuple[int, ...] = ()  # of the network's weights those that make the logits

    @property
    def dear(self) -> float:
        """The loss above which something is wrong."""
        return self.guessing + max(2.0, self.guessing / 2)

    def as_dict(self) -> dict[str, float]:
        return {name: getattr(self, name) for name in ("predicted", "measured", "guessing")}


@dataclass(frozen=True)
class Seen:
    """All that the rules look at."""

    network: Network
    laws: dict[str, Recognized]  # by parameter
    loss: Loss | None
    fates: dict[str, Fate]  # of zero and constant tensors: ``stuck``
    said: list[Finding] = field(default_factory=list)  # so far

    @property
    def weights(self) -> Sequence[Weight]:
        return self.network.weights

    def drawn(self) -> Iterator[tuple[int, Weight, Recognized]]:
        """Each parameter at its first use."""
        for name, index in self.network.laws.items():
            yield index, self.weights[index], self.laws[name]


def modules_of(weights: Sequence[Weight]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(weight.module or weight.parameter for weight in weights))


def named(name: str) -> str:
    """A module in a sentence.

    >>> named("fc"), named("0")
    ('fc', 'layer 0')
    """
    return f"layer {name}" if name.isdigit() else name


def called(weight: Weight) -> str:
    """A weight in a sentence: its module, or itself where it is the model's own."""
    return named(weight.module or weight.parameter)


def say(value: float) -> str:
    """A number in a sentence.

    >>> say(0.16), say(3.2e-9), say(1234567.0)
    ('0.16', '3.2e-09', '1.2e+06')
    """
    return f"{value:.2g}"


def severity(factor: float) -> str:
    """Of a signal that is multiplied by ``factor``, or divided by it."""
    return ERROR if not 1 / BREAK < factor < BREAK else WARNING
