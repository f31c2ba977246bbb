"""What each kind of layer does to second moments, unit by unit, in a network that is a chain.

``theory.predict.prediction`` runs these along it; ``theory.predict.rules`` are for any network.

A ``Signal`` is what is known of the values between two layers, a ``Gradient`` of ∂E/∂ of them: both
hold an expectation over draws of the weights for every unit, (F,) or (C, H, W), averaged over the
batch.  A rule maps the signal forward and returns a function that maps the gradient backward.

    weight layer  E[y²] = Var[w]·Σ E[x²] + Var[b] over what an output sees (He et al. 2015, Eq. 7, E[x²]
                  and not Var[x]); E[δx²] = Var[w]·Σ E[δy²] over what an input feeds (Eq. 12).
    rectifier     E[φ(y)²] = A₂·E[y²] and E[φ'(y)²δ²] = A₂·E[δ²]: exact, for flipping the signs of one
                  filter and its bias flips y and leaves all even moments alone.
    other         Gaussian y: quadrature, the limit of infinite width.  Activations in a row are one.
                  What is no pre-activation (after a pool, dropout, or an activation and batch norm)
                  is not Gaussian: the factor measured on a calibration batch.
    batch norm    over batch and pixels a channel gets exactly mean β and second moment
                  γ²·σ²/(σ² + ε) + β².  Backward δy = γ/σ·(δz less its components along 1 and ẑ): a
                  factor E[γ²/σ²]·(1 − 2/N) for N = batch·pixels values.  σ² is the variance over the
                  batch, in expectation q − E[μ²] and less than the second moment q: that is where
                  π/(π − 1) per ReLU layer comes from (Yang et al. 2019).  E[μ²] and the spread of σ²
                  from channel to channel follow from the correlations of the inputs in wide layers
                  (``predict.points``).  In the course report's network of 32 filters a layer's factor
                  is up to a third off, mostly too small, and those of 11 layers together 2.2 times.
    pooling       no closed form: the factor measured on a calibration batch.

Backward is exact too, biases or not, for a cotangent whose entries are uncorrelated and independent
of the network: then E[δδᵀ | x] is diagonal at every layer and does not depend on x (induction from the
output; each step uses the sign flip above and uncorrelated weights of mean 0).  It is not exact for
the cotangent of a loss, which depends on the output.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import nn

from theory.errors import RequestError
from theory.law.quadrature import gaussian_nodes
from theory.predict.moments import (
    INFINITE_BATCH,
    INFINITE_WIDTH,
    MEASURED_FACTOR,
    NO_CLOSED_FORM,
    SHARED_WEIGHTS,
)
from theory.predict.nonlinearities import ACTIVATIONS, Nonlinearity, Pointwise, Rectifier, function_of
from theory.predict.points import Points
from theory.windows import backward_power, forward_power, kept_with_mean

Array = NDArray[np.float64]

POOLS = (nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d)
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)
DROPOUTS = (nn.Dropout, nn.Dropout1d, nn.Dropout2d)


@dataclass(frozen=True)
class Signal:
    """The second moments between two layers; see the module docstring.

    power         E[x²] of each unit, (F,) or (C, H, W)
    channel_mean  (C,) or (F,): E[μ²], μ the mean of a channel over batch and pixels in one network
    offset        E[x] over draws, of a shape that broadcasts with ``power``: a batch norm's β
    symmetric     whether x − offset and its negative have one law over draws of the weights
    gaussian      whether x is Gaussian in the limit of infinite width
    with_mean     E[x·μ] per pixel, or None: taken for ``channel_mean``
    points        covariances of a sample of points of the batch; None where they are not known
    basis         on which approximations it rests: a subset of ``BASES``, empty for exact
    """

    power: Array
    channel_mean: Array
    offset: Array = field(default_factory=lambda: np.zeros(()))
    symmetric: bool = False
    gaussian: bool = False
    with_mean: Array | None = None
    points: Points | None = None
    basis: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Gradient:
    """E[(∂E/∂x)²] of each unit, in the shape of the signal's power, and what it rests on."""

    power: Array
    basis: frozenset[str] = frozenset()

    def times(self, factor: ArrayLike, *basis: str) -> Gradient:
        """The gradient times ``factor``, resting on ``basis`` as well."""
        return Gradient(self.power * np.asarray(factor), self.basis | set(basis))


Backward = Callable[[Gradient], Gradient]


@dataclass(frozen=True)
class Factor:
    """What one module does on a calibration batch, as ratios of means over units and batch.

    forward       second moment of its output / of its input
    backward      second moment of the gradient at its input / at its output
    channel_mean  mean over channels of μ² at its output / second moment of its output
    """

    forward: float
    backward: float
    channel_mean: float


@dataclass(frozen=True)
class Setting:
    """What a rule may know beside its module: where it stands, and the moments of its weights.

    ``bias`` and ``bias_mean`` are the second moment and the mean of the bias: numbers for a law, one
    per output channel for biases that are held.
    ``feeds_pool`` says that a pool selects among this module's outputs: which unit gets a gradient
    then depends on its value.
    """

    batch: int | None = None
    weight_variance: float = 0.0
    bias: Array = field(default_factory=lambda: np.zeros(1))
    bias_mean: Array = field(default_factory=lambda: np.zeros(1))
    weight_basis: frozenset[str] = frozenset()
    factor: Factor | None = None
    feeds_pool: bool = False


def rule_of(module: nn.Module) -> Callable[[Any, Signal, Setting], tuple[Signal, Backward]] | None:
    """The rule for ``module`` (subclasses count as what they extend), or None if there is none."""
    rules: tuple[tuple[Any, Callable[[Any, Signal, Setting], tuple[Signal, Backward]]], ...] = (
        (nn.Linear, linear),
        (nn.Conv2d, convolution),
        ((Pointwise, *ACTIVATIONS), activation),
        (NORMS, batch_norm),
        (POOLS, pool),
        (nn.Flatten, flatten),
        (DROPOUTS, dropout),
        (nn.Identity, identity),
    )
    return next((rule for kinds, rule in rules if isinstance(module, kinds)), None)


def identity(module: nn.Module, signal: Signal, setting: Setting) -> tuple[Signal, Backward]:
    """Nothing happens."""
    return signal, lambda gradient: gradient


def flatten(module: nn.Flatten, signal: Signal, setting: Setting) -> tuple[Signal, Backward]:
    """(C, H, W) to (C·H·W,)."""
    if (module.start_dim, module.end_dim) != (1, -1):
        raise RequestError("only nn.Flatten() from dimension 1 to the last has a rule")
    return _flat(signal), lambda gradient: replace(
        gradient, power=gradient.power.reshape(signal.power.shape)
    )


def _flat(signal: Signal) -> Signal:
    shape = signal.power.shape
    pixels = int(np.prod(shape[1:]))
    return replace(
        signal,
        power=signal.power.reshape(-1),
        channel_mean=np.repeat(signal.channel_mean, pixels),
        offset=np.broadcast_to(signal.offset, shape).reshape(-1),
        with_mean=None if signal.with_mean is None else signal.with_mean.reshape(-1),
    )


def linear(module: nn.Linear, signal: Signal, setting: Setting) -> tuple[Signal, Backward]:
    """y = W x + b on (F,); a subclass that is given a map of in_features values flattens it."""
    shape, power = signal.power.shape, signal.power
    flattens = len(shape) == 3 and type(module) is not nn.Linear
    if power.size != module.in_features or not (len(shape) == 1 or flattens):
        raise RequestError(
            f"a linear layer of {module.in_features} inputs is given {'×'.join(map(str, shape))} "
            "values: flatten maps first"
        )
    scale = setting.weight_variance * module.in_features
    moment = scale * power.mean() + setting.bias * np.ones(module.out_features)
    mean = scale * float(_flat(signal).channel_mean.mean()) + setting.bias * np.ones_like(moment)
    bias_share = _share(setting.bias, moment)
    after = Signal(
        moment,
        mean,
        offset=setting.bias_mean * np.ones_like(moment),
        symmetric=True,
        gaussian=True,
        points=signal.points and signal.points.linear(bias_share),
        basis=signal.basis | setting.weight_basis,
    )

    def backward(gradient: Gradient) -> Gradient:
        each = setting.weight_variance * module.out_features * gradient.power.mean()
        return Gradient(np.full(shape, each), gradient.basis | setting.weight_basis)

    return after, backward


def convolution(module: nn.Conv2d, signal: Signal, setting: Setting) -> tuple[Signal, Backward]:
    """y = W * x + b on (C, H, W), border, stride, dilation and groups included."""
    size = signal.power.shape[1:]
    padding: Any = module.padding
    geometry: Any = (module.kernel_size, padding, module.stride, module.dilation, module.padding_mode)
    taps, groups = int(np.prod(module.kernel_size)), module.groups
    fan_in = taps * module.in_channels // groups
    fan_out = taps * module.out_channels // groups
    copies = module.out_channels // groups

    def per_group(values: Array) -> Array:
        return np.asarray(values.reshape(groups, -1, *values.shape[1:]).mean(1))

    scale = setting.weight_variance * fan_in
    power = np.stack([scale * forward_power(part, *geometry) for part in per_group(signal.power)])
    seen = kept_with_mean(size, *geometry)
    with_mean = scale * per_group(signal.channel_mean)[:, None, None] * seen
    bias, offset = (values.reshape(-1, 1, 1) for values in (setting.bias, setting.bias_mean))
    power, with_mean = (np.repeat(values, copies, axis=0) + bias for values in (power, with_mean))
    bias_share = _share(bias, power)
    border = seen.mean() / forward_power(np.ones(size), *geometry).mean()
    points = signal.points and signal.points.convolution(module, bias_share, border)
    if points and signal.points and signal.points.covariance is not None:
        points = points.thinned(size, power.shape[1:])
    after = Signal(
        power,
        with_mean.mean((1, 2)),
        offset=offset * np.ones((module.out_channels, 1, 1)),
        symmetric=True,
        gaussian=True,
        with_mean=with_mean,
        points=points,
        basis=signal.basis | setting.weight_basis,
    )

    def backward(gradient: Gradient) -> Gradient:
        parts = [
            setting.weight_variance * fan_out * backward_power(part, (size[0], size[1]), *geometry)
            for part in per_group(gradient.power)
        ]
        each = np.repeat(np.stack(parts), module.in_channels // groups, axis=0)
        return Gradient(each, gradient.basis | setting.weight_basis)

    return after, backward


def batch_norm(module: Any, signal: Signal, setting: Setting) -> tuple[Signal, Backward]:
    """z = γ·(y − μ)/√(σ² + ε) + β; with running statistics (eval mode) a fixed affine map."""
    channels = len(signal.power)
    column = (channels,) + (1,) * (signal.power.ndim - 1)
    gamma = _values(module.weight, np.ones(channels)).reshape(column)
    beta = _values(module.bias, np.zeros(channels)).reshape(column)
    mean = signal.channel_mean.reshape(column)
    if module.training or module.running_mean is None:
        pixels = tuple(range(1, signal.power.ndim))
        spread = np.maximum(signal.power.mean(pixels, keepdims=True) - mean, 0.0)
        # E[(y − μ)²] per pixel: y is not independent of the mean it is part of
        shared = mean if signal.with_mean is None else signal.with_mean
        centered = np.maximum(signal.power - 2 * shared + mean, 0.0)
        scale = gamma**2 / (spread + module.eps)
        count = setting.batch * int(np.prod(signal.power.shape[1:])) if setting.batch else None
        left = max(1 - 2 / count, 0.0) if count else 1.0
        power = scale * centered + beta**2
        points = signal.points
        fluctuation = points.inverse_variance() if points else 1.0
        after = replace(
            signal,
            points=points and points.centered().linear(_share(beta**2, power)),
            power=power,
            channel_mean=(beta**2).reshape(-1),
            offset=beta,
            with_mean=None,
            basis=signal.basis | {INFINITE_BATCH},
        )
        return after, lambda gradient: gradient.times(
            scale * left * fluctuation, INFINITE_WIDTH, INFINITE_BATCH
        )
    running = _values(module.running_mean, np.zeros(channels)).reshape(column)
    variance = _values(module.running_var, np.ones(channels)).reshape(column)
    slope = gamma / np.sqrt(variance + module.eps)
    offset = beta + slope * (signal.offset - running)
    shift = offset**2 - (slope * signal.offset) ** 2
    after = replace(
        signal,
        power=slope**2 * signal.power + shift,
        channel_mean=(slope**2 * mean + shift).reshape(-1),
        offset=offset,
        with_mean=None if signal.with_mean is None else slope**2 * signal.with_mean + shift,
    )
    return after, lambda gradient: gradient.times(slope**2)


def _share(part: Array, whole: Array) -> float:
    return float(part.mean() / whole.mean()) if whole.any() else 0.0


def _values(tensor: torch.Tensor | None, default: Array) -> Array:
    if tensor is None:
        return default
    values: Array = tensor.detach().cpu().to(torch.float64).numpy()
    return values


def dropout(module: Any, signal: Signal, setting: Setting) -> tuple[Signal, Backward]:
    """In train mode x·mask/(1 − p): the second moment and the gradient's are divided by 1 − p."""
    if not module.training or module.p == 0:
        return signal, lambda gradient: gradient
    factor = 1 / (1 - module.p) if module.p < 1 else 0.0
    after = replace(signal, power=signal.power * factor, with_mean=None, gaussian=False)
    return after, lambda gradient: gradient.times(factor)


def pool(module: nn.Module, signal: Signal, setting: Setting) -> tuple[Signal, Backward]:
    """Max or average over windows: the measured factor, spread over pixels as a mean would be."""
    with torch.no_grad():
        one = torch.zeros(1, *signal.power.shape)
        size = tuple(module(one).shape[2:])
    spread = nn.functional.adaptive_avg_pool2d
    averaged = spread(torch.from_numpy(np.ascontiguousarray(signal.power))[None], size)[0].numpy()
    shape = signal.power.shape
    factor = setting.factor
    basis = MEASURED_FACTOR if factor else NO_CLOSED_FORM
    ratio = factor.forward if factor else np.nan
    power = averaged * (ratio * signal.power.mean() / (averaged.mean() or 1.0))
    share = factor.channel_mean if factor else np.nan
    points = signal.points and signal.points.thinned(shape[1:], size)
    after = Signal(power, share * power.mean((1, 2)), points=points, basis=signal.basis | {basis})

    def backward(gradient: Gradient) -> Gradient:
        rows = np.arange(shape[1]) * gradient.power.shape[1] // shape[1]
        columns = np.arange(shape[2]) * gradient.power.shape[2] // shape[2]
        spread = gradient.power[:, rows[:, None], columns]
        kept = (factor.backward if factor else np.nan) * gradient.power.mean()
        return Gradient(spread * (kept / (spread.mean() or 1.0)), gradient.basis | {basis})

    return after, backward


def activation(module: nn.Module, signal: Signal, setting: Setting) -> tuple[Signal, Backward]:
    """x = φ(y), unit by unit; a ``Pointwise`` is a row of activations, and one φ.

    What is not Gaussian has no closed form, and a pool's gradient favours the positive units: in both
    cases the measured factor stands in for A₂.
    """
    row = module if isinstance(module, Pointwise) else Pointwise(module)
    phi = function_of(row, signal.power.ndim)
    variance = np.maximum(signal.power - signal.offset**2, 0.0)
    even = row.is_rectifier and signal.symmetric and not np.any(signal.offset)
    exact = even and SHARED_WEIGHTS not in signal.basis
    known = even or signal.gaussian
    basis = set() if exact else {SHARED_WEIGHTS} if even else {INFINITE_WIDTH}
    factor = setting.factor
    measured = MEASURED_FACTOR if factor else NO_CLOSED_FORM
    if not known:
        power = signal.power * (factor.forward if factor else np.nan)
        share = factor.channel_mean if factor else np.nan
        channel_mean = share * power.reshape(len(power), -1).mean(1)
        basis = {measured}
    else:
        power = phi.second_moment(signal.offset, variance)
        channel_mean = _channel_mean(phi, signal, variance)
    points = signal.points and phi.of_points(signal.points, float(signal.power.mean()))
    if points and setting.batch and known and not np.any(signal.offset):
        pixels = int(np.prod(power.shape[1:]))
        channel_mean = points.mean(setting.batch * pixels) * power.reshape(len(power), -1).mean(1)
    after = Signal(power, channel_mean, points=points, basis=signal.basis | basis)

    def backward(gradient: Gradient) -> Gradient:
        if not known or setting.feeds_pool:
            return gradient.times(factor.backward if factor else np.nan, measured)
        # a rectifier's slope knows no scale: exact even where the signal's size is not known
        scale = np.ones_like(variance) if even else variance
        return gradient.times(phi.slope_second_moment(signal.offset, scale), *basis)

    return after, backward


def _channel_mean(phi: Nonlinearity, signal: Signal, variance: Array) -> Array:
    """E[μ²] after φ: all pairs of values in a channel are taken for Gaussian with one correlation."""
    channels = len(signal.power)
    spread = variance.reshape(channels, -1).mean(1)
    offset = np.broadcast_to(signal.offset, signal.power.shape).reshape(channels, -1)[:, 0]
    common = np.clip(signal.channel_mean - offset**2, 0.0, spread)
    z, weights = gaussian_nodes()
    if isinstance(phi, Rectifier) and phi.slope.ndim:  # a slope for each channel
        phi = Rectifier(phi.slope.reshape(-1))
        cases, where = np.stack([offset, common, spread], 1), np.arange(channels)
    else:
        cases, where = np.unique(np.stack([offset, common, spread], 1), axis=0, return_inverse=True)
    m, shared, all_of_it = cases.T
    inner = phi.mean(m + np.sqrt(shared) * z[:, None], all_of_it - shared)
    result: Array = (weights @ inner**2)[where.reshape(-1)]
    return result
