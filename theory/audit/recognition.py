"""The law of a weight tensor, recognized from nothing but its values.

A candidate is a law and a fan of ``theory.initializers`` (or a fixed scale): a shape and a standard
deviation.  Each gives the n weights a likelihood, which hangs on Σw² and on the largest |w| alone:

    normal      −n·ln(σ√(2π)) − Σw²/(2σ²)
    uniform     −n·ln(2b), b = √3·σ, and none at all where a weight lies outside of ±b
    truncated   that of a normal law of σ₀ = σ/0.8796 cut at ±2σ₀, none where a weight lies outside

The confidence is the share of the best in the sum over all candidates.  A law must also fit by itself:
the measured standard deviation s lies within ``FIT`` of its standard errors, σ·√((κ − 1)/(4n)) by the
delta method (σ/√(2n) for a normal law), and the kurtosis within ``FIT`` of its own, √(c/n) with c = 24
for a normal law.  Laws that coincide at these fans have one likelihood and are named together.
Orthogonal weights show in WWᵀ ∝ 1, constants and zeros in the values themselves.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

import torch

from theory.initializers import (
    LAWS,
    SHAPES,
    TRUNCATED_VARIANCE,
    he_gain,
    parse_initializer,
)

FIT = 5.0  # standard errors within which a law must fit by itself
FEW = 16  # weights below which nothing is said
SURE = 0.5  # confidence below which several laws are possible
MOST = 1 << 22  # weights that are looked at: of a larger tensor, evenly spread ones
ORTHOGONAL = 1e-3  # largest cosine between rows that are called orthogonal
ROWS = 64  # whose cosines are looked at
FIXED = (1e-3, 0.01, 0.02, 0.05, 0.1, 1.0)  # standard deviations that people write down
SAME = 0.05  # relative difference of two measured scales that one author wrote down as one
# Of torch.nn.init.calculate_gain for ReLU and tanh; kaiming_normal_ with torch's default a = √5.
GAINS = {
    **dict.fromkeys(("xavier", "xavier-uniform"), (he_gain(), 5 / 3)),
    "lecun": (math.sqrt(1 / 3),),
}
# Variance of the sample kurtosis times n, by the delta method from moments up to the eighth.
KURTOSIS_VARIANCE = {"normal": 24.0, "uniform": 4.12, "truncated": 6.0}


@dataclass(frozen=True)
class Recognized:
    """The law of a tensor, or what can be said of it.

    name          one of ``INITIALIZERS``, ``zero``, ``constant``, ``identity``, or a shape with its
                  scale (``uniform:0.05`` is U(±0.05)); None where nothing fits, or too few
                  weights are there
    fan           what the law divides by, as named by ``recognize``'s ``fans``; None where it has none
    gain          its gain: √2 for he, 1 for xavier and lecun
    std           measured;  ``expected_std`` what the law asks for
    confidence    its share of the likelihood of all candidates
    also          laws that coincide with it here, or cannot be told from it by so few weights
    remark        why there is no name
    """

    name: str | None
    fan: str | None = None
    gain: float = 1.0
    std: float = math.nan
    expected_std: float = math.nan
    confidence: float = math.nan
    also: tuple[str, ...] = ()
    remark: str = ""
    others: tuple[Recognized, ...] = field(default=(), repr=False)  # those of ``also``

    @property
    def label(self) -> str:
        """The law and its fan in words."""
        if self.name is None:
            return self.remark or "unknown"
        usual = he_gain() if self.name in LAWS and LAWS[self.name].gain == "he" else 1.0
        gain = f" × {self.gain:.3g}" if self.gain != usual and self.fan else ""
        return self.name + gain + (f", {self.fan}" if self.fan else "")

    def as_dict(self) -> dict[str, object]:
        """What the contract's JSON says of a law."""
        keys = ("name", "fan", "gain", "std", "expected_std", "confidence", "also")
        return {key: getattr(self, key) for key in keys}


@dataclass(frozen=True)
class Candidate:
    """A law at these fans: the shape, the standard deviation of one weight, and what it is called."""

    name: str
    shape: str
    std: float
    fan: str | None = None
    gain: float = 1.0
    rank: int = 0  # of laws that coincide, the lowest is named first


@dataclass(frozen=True)
class Values:
    """All that a likelihood needs of n weights."""

    count: int
    mean: float
    second_moment: float
    kurtosis: float
    largest: float

    @property
    def std(self) -> float:
        return math.sqrt(max(self.second_moment, 0.0))

    def has_kurtosis_of(self, shape: str) -> bool:
        """Within ``FIT`` standard errors."""
        error = math.sqrt(KURTOSIS_VARIANCE[shape] / self.count)
        return abs(self.kurtosis - SHAPES[shape].kurtosis) < FIT * error + 30 / self.count

    @classmethod
    def of(cls, weight: torch.Tensor) -> Values:
        """The moments of ``weight`` about 0 in float64."""
        flat = weight.detach().reshape(-1)
        flat = flat[:: max(flat.numel() // MOST, 1)].double()
        square = flat.square()
        second = float(square.mean())
        fourth = float(square.square().mean())
        kurtosis = fourth / second**2 if second > 0 else math.nan
        return cls(flat.numel(), float(flat.mean()), second, kurtosis, float(flat.abs().max()))


def recognize(
    weight: torch.Tensor,
    fans: Mapping[str, tuple[float, float]],
    *,
    groups: int = 1,
    parts: int = 1,
) -> Recognized:
    """The law of ``weight``, a tensor of at least two dimensions as torch holds it.

    ``fans`` are the (fan_in, fan_out) it may have been drawn with, by the name of the mistake:
    ``{"": (27, 576)}`` for the right ones, beside them ``{"ungrouped": …}``.  A law is then named with
    the fan ``fan_out``, or ``ungrouped fan_out``; of laws that coincide the earlier entry comes first.
    ``parts`` matrices are stacked in it, each of which can be orthogonal, or all as one.

    >>> from theory.randomness import generator
    >>> weight = torch.empty(64, 32).normal_(0, (2 / 32) ** 0.5, generator=generator(0, "doctest"))
    >>> recognize(weight, {"": (32, 64)}).label
    'he, fan_in'
    """
    values = Values.of(weight)
    plain = _without_randomness(weight, values)
    if plain is not None:
        return plain
    if values.count < FEW:
        return Recognized(None, std=values.std, remark="too few weights to tell")
    for pieces in dict.fromkeys((groups * parts, groups)):
        orthogonal = _orthogonal(weight, values, pieces)
        if orthogonal is not None:
            return replace(orthogonal, fan=None if pieces == groups * parts else "packed")
    if abs(values.mean) * math.sqrt(values.count) > (FIT + 1) * values.std:
        return Recognized(None, std=values.std, remark="a mean that is not 0")
    return _most_likely(values, list(candidates(fans)))


def candidates(fans: Mapping[str, tuple[float, float]]) -> Iterable[Candidate]:
    """Every law of ``theory.initializers`` at each of the ``fans``, and the fixed scales."""
    for rank, (mistake, (fan_in, fan_out)) in enumerate(fans.items()):
        for name, law in LAWS.items():
            if law.fan is None:
                continue
            for fan in (law.fan,) if law.fan == "fan_avg" else ("fan_in", "fan_out"):
                initializer = parse_initializer(name)
                label = f"{mistake} {fan}".strip()
                unusual = 2 * rank + (fan != law.fan)
                ends = (fan_out, fan_in) if fan == "fan_out" else (fan_in, fan_out)
                std = initializer.std(*ends)  # of pytorch's, which leaves no choice, the mistake too
                gain = he_gain() if law.gain == "he" else 1.0
                yield Candidate(name, law.shape, std, label, gain, unusual)
                for more in GAINS.get(name, ()):
                    yield Candidate(name, law.shape, std * more, label, more, unusual + 1)
    for std in FIXED:
        yield Candidate("normal" if std == 1 else f"normal:{std:g}", "normal", std, rank=100)
        yield Candidate(
            f"truncated:{std:g}", "truncated", std * math.sqrt(TRUNCATED_VARIANCE), rank=101
        )


def _without_randomness(weight: torch.Tensor, values: Values) -> Recognized | None:
    """Zeros, a constant, a multiple of the identity, or values that are no numbers."""
    if not math.isfinite(values.second_moment):
        return Recognized(None, std=math.nan, remark="not finite")
    if values.largest == 0:
        return Recognized("zero", std=0.0, expected_std=0.0, confidence=1.0)
    if weight.numel() > 1 and bool((weight == weight.reshape(-1)[0]).all()):
        return Recognized("constant", std=values.std, expected_std=values.std, confidence=1.0)
    square = weight.dim() == 2 and weight.shape[0] == weight.shape[1] > 1
    if square and torch.equal(weight, weight[0, 0] * torch.eye(len(weight)).to(weight)):
        return Recognized("identity", std=values.std, expected_std=values.std, confidence=1.0)
    return None


def _orthogonal(weight: torch.Tensor, values: Values, groups: int) -> Recognized | None:
    """Orthonormal rows, or columns where there are more rows, times a gain."""
    if len(weight) % groups or len(weight) == groups:
        return None
    matrix = weight.detach().reshape(groups, len(weight) // groups, -1)[0].double()
    matrix = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T
    if len(matrix) < 2 or matrix.shape[1] < 3:
        return None
    rows = matrix[:: -(-len(matrix) // ROWS)]
    gram = rows @ rows.T
    lengths = gram.diagonal().sqrt()
    if float(lengths.min()) == 0:
        return None
    cosines = gram / torch.outer(lengths, lengths) - torch.eye(len(rows), dtype=gram.dtype)
    if float(cosines.abs().max()) > ORTHOGONAL or float(lengths.std() / lengths.mean()) > ORTHOGONAL:
        return None
    gain, longest = float(lengths.mean()), matrix.shape[1]
    return Recognized("orthogonal", None, gain, values.std, gain / math.sqrt(longest), 1.0)


def _most_likely(values: Values, laws: list[Candidate]) -> Recognized:
    fitting = [law for law in laws if _fits(values, law)]
    if not fitting:
        return _by_shape(values)
    logs = {law: log_likelihood(values, law.shape, law.std) for law in fitting}
    best = max(logs.values())
    # laws that coincide share one place, named by the first; the others count
    places: dict[float, list[Candidate]] = {}
    for law in sorted(fitting, key=lambda law: law.rank):
        place = next((at for at in places if abs(at - logs[law]) < 1e-6 * (1 + abs(at))), logs[law])
        places.setdefault(place, []).append(law)
    weights = {at: math.exp(at - best) for at in places}
    total = sum(weights.values())
    most = max(weights, key=lambda at: weights[at])
    law, *same = places[most]
    confidence = weights[most] / total
    rivals = [law for at, found in places.items() if at != most and weights[at] > 0.1 for law in found]
    others = tuple(_as_recognized(values, other, confidence) for other in (*same, *rivals))
    found = _as_recognized(values, law, confidence)
    if confidence < SURE and len(rivals) > 2:
        found = replace(found, name=None, fan=None, remark="too few weights to tell")
    also = tuple(dict.fromkeys(other.label for other in others))
    return replace(found, also=also, others=others)


def _as_recognized(values: Values, law: Candidate, confidence: float) -> Recognized:
    return Recognized(law.name, law.fan, law.gain, values.std, law.std, confidence)


def agreed(laws: Mapping[str, Recognized]) -> dict[str, Recognized]:
    """Of laws that coincide in one tensor, the one that most tensors of the network may have.

    A network's author calls one function for all: what it was shows where the fans differ.  Scales of
    no known law that differ by chance get one name.
    """
    laws = _with_one_scale(laws)
    votes = Counter(one.label for law in laws.values() for one in (law, *law.others) if one.name)
    chosen = {}
    for name, law in laws.items():
        if law.name is None or not law.others:
            chosen[name] = law
            continue
        best = max((law, *law.others), key=lambda one: votes[one.label])
        rest = tuple(one for one in (law, *law.others) if one is not best)
        also = tuple(dict.fromkeys(one.label for one in rest))
        chosen[name] = replace(best, also=also, others=rest)
    return chosen


def _with_one_scale(laws: Mapping[str, Recognized]) -> dict[str, Recognized]:
    """Laws named by the scale that was measured: of those within ``SAME``, all named like the first.

    >>> laws = {str(std): Recognized(f"normal:{std}", std=std) for std in (0.0078, 0.0079, 0.02)}
    >>> [law.name for law in _with_one_scale(laws).values()]
    ['normal:0.0078', 'normal:0.0078', 'normal:0.02']
    """
    named: dict[str, Recognized] = {}
    for name, law in laws.items():
        shape, _, scale = (law.name or "").partition(":")
        alike = (
            one.name for one in named.values()
            if scale and (one.name or "").startswith(f"{shape}:") and abs(one.std / law.std - 1) < SAME
        )  # fmt: skip
        named[name] = replace(law, name=next(alike, law.name))
    return named


def _fits(values: Values, law: Candidate) -> bool:
    """Whether std, kurtosis and support are those of ``law``, within ``FIT`` standard errors."""
    kurtosis = SHAPES[law.shape].kurtosis
    z = (values.std - law.std) / (law.std * math.sqrt((kurtosis - 1) / (4 * values.count)))
    tails = values.has_kurtosis_of(law.shape)
    return abs(z) < FIT and tails and values.largest <= bound(law.shape, law.std) * (1 + 1e-3)


def bound(shape: str, std: float) -> float:
    """The largest |w| that a law of this shape and standard deviation can draw."""
    factor = {"uniform": math.sqrt(3), "truncated": 2 / math.sqrt(TRUNCATED_VARIANCE)}
    return std * factor.get(shape, math.inf)


def log_likelihood(values: Values, shape: str, std: float) -> float:
    """ln p(weights) under a law of this shape and standard deviation; its support is not checked."""
    n, square = values.count, values.count * values.second_moment
    if shape == "uniform":
        return -n * math.log(2 * math.sqrt(3) * std)
    sigma = std / math.sqrt(TRUNCATED_VARIANCE) if shape == "truncated" else std
    inside = math.erf(math.sqrt(2)) if shape == "truncated" else 1.0
    return -n * math.log(sigma * math.sqrt(2 * math.pi) * inside) - square / (2 * sigma**2)


def _by_shape(values: Values) -> Recognized:
    """A shape of its own scale, where no law of the table fits; the nearest kurtosis decides."""
    n = values.count
    for shape in ("uniform", "normal", "truncated"):
        within = values.largest <= bound(shape, values.std * (1 + FIT / math.sqrt(n)))
        if within and values.has_kurtosis_of(shape):
            scale = values.largest if shape == "uniform" else values.std / SHAPES[shape].std
            name = f"{shape}:{scale:.3g}"
            return Recognized(name, None, 1.0, values.std, values.std, 0.9 if n > 1000 else SURE)
    remark = f"no known law (kurtosis {values.kurtosis:.3g})"
    return Recognized(None, std=values.std, remark=remark)
