"""Layers of infinitely wide nets on vectors, or on each position of an image alone; their chains and sums."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal, Protocol, runtime_checkable

import torch
from torch import Tensor

from regimes.activations import Activation, require_activation
from regimes.checks import count, not_negative, positive
from regimes.tangent.infinite.activations import form_of
from regimes.tangent.infinite.closed_forms import Form
from regimes.tangent.infinite.state import Kind, Layer, Pairs, Sides, alone, placed, recorded, root, with_constant

Parametrisation = Literal["ntk", "standard"]


@runtime_checkable
class Weights(Protocol):
    """What Dense and Conv have in common."""

    @property
    def sigma_w(self) -> float: ...
    @property
    def sigma_b(self) -> float | None: ...
    @property
    def parametrisation(self) -> str: ...
    @property
    def fan_in(self) -> int | None: ...


@dataclass(frozen=True)
class Dense:
    """Random weights from all channels to `width` new ones, at each position alone.

    S' = σ_w² S + σ_b². "ntk": W = σ_w/√fan_in·ω, b = σ_b·β, ω and β trained: K' = S' + σ_w² K. "standard": W and b
    themselves trained, W ~ N(0, σ_w²/fan_in), b ~ N(0, σ_b²): K' = fan_in·S + 1 + σ_w² K. sigma_b = None: no biases,
    and no 1. width is needed where a "standard" layer follows: its fan-in counts.
    """

    sigma_w: float = 1.0
    sigma_b: float | None = None
    width: int | None = None
    parametrisation: Parametrisation = "ntk"
    fan_in: int | None = None

    def __post_init__(self) -> None:
        require_weights("Dense", self.sigma_w, self.sigma_b, self.width, self.parametrisation)

    @property
    def pools(self) -> bool:
        return False

    def fitted(self, kind: Kind) -> tuple["Dense", Kind]:
        known = replace(self, fan_in=fan_in("Dense", self.parametrisation, kind))
        return known, Kind(kind.positions, self.width, gaussian=True, fresh=True)

    def sides(self, before: Tensor, own: Pairs | None) -> tuple[Sides, Pairs | None]:
        return alone(self, before, with_bias(self.sigma_w * before, self.sigma_b), own)

    def pairs(self, pairs: Pairs, left: Sides, right: Sides) -> Pairs:
        gap, total, ntk, factor = pairs
        after = Pairs(gap, total, ntk, self.sigma_w**2 * factor)
        if self.sigma_b:
            a, b = placed(self.sigma_w * left.before, self.sigma_w * right.before, gap)
            rest = with_constant(a, b, *placed(left.after, right.after, gap), self.sigma_b, after.factor)
            after = after._replace(gap=gap + rest, total=total.add(rest).add_(2 * self.sigma_b**2 / after.factor))
        return trained(self, pairs.covariance, after)


@dataclass(frozen=True)
class Nonlinearity:
    """An activation, one of regimes.activations or your own.

    S' = E σ(u)σ(v), K' = K E σ'(u)σ'(v) under N(0, S). In closed form for relu, leaky, abs, identity, erf and gelu; by
    Hermite series, or by quadrature where the series does not end or the derivative jumps (at 0 is best).
    tolerance: ValueError for means whose relative error may be larger.
    """

    activation: Activation
    tolerance: float = 1e-9

    def __post_init__(self) -> None:
        require_activation(self.activation, "Nonlinearity")
        positive("Nonlinearity", "tolerance", self.tolerance, single=True)
        form_of(self.activation, self.tolerance)

    @property
    def pools(self) -> bool:
        return False

    @property
    def form(self) -> Form:
        return form_of(self.activation, self.tolerance)

    def fitted(self, kind: Kind) -> tuple["Nonlinearity", Kind]:
        require_gaussian("Nonlinearity", kind)
        return self, kind._replace(gaussian=False)

    def sides(self, before: Tensor, own: Pairs | None) -> tuple[Sides, Pairs | None]:
        return alone(self, before, self.form.root(before), own)

    def pairs(self, pairs: Pairs, left: Sides, right: Sides) -> Pairs:
        roots = placed(left.before, right.before, pairs.gap), placed(left.after, right.after, pairs.gap)
        return self.form.pairs(pairs, *roots)


@dataclass(frozen=True)
class LayerNorm:
    """Outputs divided by their root mean square over the channels, at each position: S' = S/√((A + ε)(B + ε)), K alike.

    Outputs have mean 0 over infinitely many channels. No trained gain or bias. over_positions: the mean is over the
    positions too.
    """

    epsilon: float = 1e-12
    over_positions: bool = False

    def __post_init__(self) -> None:
        positive("LayerNorm", "epsilon", self.epsilon, single=True)

    @property
    def pools(self) -> bool:
        return False

    def fitted(self, kind: Kind) -> tuple["LayerNorm", Kind]:
        require_gaussian("LayerNorm", kind)
        return self, kind

    def sides(self, before: Tensor, own: Pairs | None) -> tuple[Sides, Pairs | None]:
        return alone(self, before, before * self._factor(before, 1), own)

    def pairs(self, pairs: Pairs, left: Sides, right: Sides) -> Pairs:
        a, b = placed(self._factor(left.before, 2), self._factor(right.before, 2), pairs.gap)
        factor = a * b
        ntk = None if pairs.ntk is None else pairs.ntk * factor
        return Pairs(pairs.gap * factor, pairs.total * factor, ntk, pairs.factor)

    def _factor(self, roots: Tensor, batch: int) -> Tensor:
        variance = roots.square()
        if self.over_positions and roots.ndim > batch:
            variance = variance.mean(tuple(range(batch, roots.ndim)), keepdim=True)
        return (variance + self.epsilon).rsqrt().expand_as(roots)


@dataclass(frozen=True)
class Identity:
    """The input as it is: the shortcut of a Residual."""

    @property
    def pools(self) -> bool:
        return False

    def fitted(self, kind: Kind) -> tuple["Identity", Kind]:
        return self, kind

    def sides(self, before: Tensor, own: Pairs | None) -> tuple[Sides, Pairs | None]:
        return Sides(before, before), own

    def pairs(self, pairs: Pairs, left: Sides, right: Sides) -> Pairs:
        return pairs


@dataclass(frozen=True)
class Serial:
    """Layers one after the other."""

    layers: tuple[Layer, ...]

    def __init__(self, *layers: Layer) -> None:
        for layer in layers:
            require_layer("Serial", layer)
        object.__setattr__(self, "layers", layers)

    @property
    def pools(self) -> bool:
        return any(layer.pools for layer in self.layers)

    def fitted(self, kind: Kind) -> tuple["Serial", Kind]:
        found = []
        for layer in self.layers:
            layer, kind = layer.fitted(kind)
            found.append(layer)
        return Serial(*found), kind

    def sides(self, before: Tensor, own: Pairs | None) -> tuple[Sides, Pairs | None]:
        inner, after = [], before
        for layer in self.layers:
            sides, own = layer.sides(after, own)
            inner.append(sides)
            after = sides.after
        return Sides(before, after, tuple(inner)), own

    def pairs(self, pairs: Pairs, left: Sides, right: Sides) -> Pairs:
        for layer, one, other in zip(self.layers, left.inner, right.inner, strict=True):
            pairs = layer.pairs(pairs, one, other)
        return pairs


def require_layer(caller: str, layer: object) -> None:
    """Refuse what is no layer, such as a torch module or a class of layers."""
    if isinstance(layer, type) or not isinstance(layer, Layer):
        raise ValueError(
            f"{caller} needs layers of infinitely wide nets, such as Dense() or Nonlinearity(RELU); got {layer!r}. "
            "Make them from regimes.tangent.infinite."
        )


def require_weights(
    caller: str, sigma_w: float, sigma_b: float | None, width: int | None, parametrisation: str
) -> None:
    """Refuse deviations, widths and parametrisations that are none."""
    positive(caller, "sigma_w", sigma_w, single=True)
    if sigma_b is not None:
        not_negative(caller, "sigma_b", sigma_b, single=True)
    if width is not None:
        count(caller, "width", width)
    if not isinstance(parametrisation, str) or parametrisation not in ("ntk", "standard"):
        raise ValueError(f"{caller} needs parametrisation 'ntk' or 'standard'; got {parametrisation!r}.")


def require_gaussian(caller: str, kind: Kind) -> None:
    """Refuse inputs that are not Gaussian over random weights."""
    if not kind.gaussian:
        raise ValueError(
            f"{caller} needs Gaussian inputs with mean 0, as random weights make them. "
            "Put Dense or Conv between it and the input, or the activation before it."
        )


def fan_in(caller: str, parametrisation: str, kind: Kind, window: int = 1) -> int | None:
    """Weights into one output, where the parametrisation counts them."""
    if parametrisation == "ntk":
        return None
    if kind.channels is None:
        raise ValueError(
            f"{caller} in the standard parametrisation needs its fan-in, and the layer before it has no width. "
            "Give that one width=..., the width of the finite net."
        )
    return kind.channels * window


def with_bias(roots: Tensor, sigma_b: float | None) -> Tensor:
    """√(A + σ_b²)."""
    return root(roots.square() + sigma_b**2) if sigma_b else roots


def trained(layer: "Weights", before: Callable[[], Tensor], after: Pairs) -> Pairs:
    """K' = S' + σ_w² K, or as the parametrisation says, in `after`, where ntk·factor is σ_w² K (a mean over windows).

    before: S before the layer (a mean over windows).
    """
    gap, total, ntk, factor = after
    if ntk is None:
        return after
    if layer.parametrisation == "ntk":
        covariance = total - gap
        if recorded(covariance, ntk):
            return after._replace(ntk=torch.add(ntk, covariance, alpha=0.5))
        return after._replace(ntk=covariance.mul_(0.5).add_(ntk))
    assert layer.fan_in is not None
    weights = layer.fan_in * before() + (0.0 if layer.sigma_b is None else 1.0)
    return after._replace(ntk=ntk + weights / factor)
