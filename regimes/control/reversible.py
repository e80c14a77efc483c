"""Any explicit method made reversible, so that back-propagation rebuilds states instead of keeping them.

Two copies y, z of the state take turns, with the increment Ψ_h(z) = h Σ_i b_i k_i of one step of the method:
    y⁺ = λ y + (1 − λ) z + Ψ_h(z),   z⁺ = z − Ψ_{−h}(y⁺);
    z = z⁺ + Ψ_{−h}(y⁺),   y = (y⁺ − Ψ_h(z))/λ + (1 − 1/λ) z.
The second line undoes the first exactly, up to rounding, which a step back multiplies by 1/λ: after n steps about
λ^(−n) times the rounding of one. The pair has the order of the method. Source: [McCallumFoster2024].

Which λ? On z' = −μ z the matrix of a step has determinant λ and eigenvalues e^(−μh) and λ e^(μh), to first order: the
second one is that of what separates the copies. It does not grow if λ ≤ e^(−μh), and λ = e^(−c/N) says that for all
rates μ ≤ c/T of contraction, whatever the number N of steps; 1 − c/N is the same to first order. The price is that
rebuilding multiplies rounding by λ^(−N) = e^c at any depth, where a fixed λ < 1 has no bound; and that what separates
the copies, O(h^order), is damped by e^(−c) in all, no longer in each step. Default: c = 1. A field that contracts
faster needs c = μT, and then back-propagation loses c/log 10 digits.
"""

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from math import exp
from typing import Any, NamedTuple, Protocol, cast, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from regimes.checks import alike, count, kind, positive, real, shapes, without_values
from regimes.control.arithmetic import combine
from regimes.control.layers import Layers, Params, require_layers
from regimes.errors import RunFailed

DAMPING = 1.0


class Copies(NamedTuple):
    """Both copies of the state; y is the one that counts."""

    y: Float[Tensor, "n *feature"]
    z: Float[Tensor, "n *feature"]


@runtime_checkable
class PulledField(Protocol):
    """A field that knows its own pull-back: then back-propagation builds no graph, which small states wait for most."""

    def __call__(self, time: float, z: Tensor, params: Params) -> Tensor:
        """f(t, z, θ)."""
        ...

    def pull(self, time: float, z: Tensor, value: Tensor, params: Params, adjoint: Tensor, sums: Params) -> Tensor:
        """∂f/∂zᵀ p, from z and f(t, z, θ) = value; adds ∂f/∂θᵀ p to `sums`."""
        ...


def coupling_of(steps: int, damping: float = DAMPING) -> float:
    """λ = e^(−c/N) of N steps: rebuilding multiplies rounding by e^c, at any depth. damping: c."""
    count("coupling_of", "steps", steps)
    positive("coupling_of", "damping", damping, single=True)
    return exp(-damping / steps)


def coupled(y: Float[Tensor, "n *feature"], z: Float[Tensor, "n *feature"], coupling: float) -> Tensor:
    """λ y + (1 − λ) z."""
    return torch.add(coupling * y, z, alpha=1 - coupling)


def uncoupled(y: Float[Tensor, "n *feature"], z: Float[Tensor, "n *feature"], coupling: float) -> Tensor:
    """(y − (1 − λ) z)/λ. The factor 1 − 1/λ of the paper is rounded with 1/λ, and off by as much at every step."""
    return torch.add(y / coupling, z, alpha=-(1 - coupling) / coupling)


def path(layers: Layers, copies: Copies, coupling: float | None = None) -> Iterator[Copies]:
    """Both copies after each step; by default the coupling is `coupling_of` the number of steps.

    ValueError, here and in `forward`, `backward` and `reversible`: an implicit method, or a coupling outside (0, 1].
    """
    coupling = _required("reversible.path", layers, copies, coupling)
    with torch.no_grad():
        layers.velocity(0.0, copies.z, layers.params[0])  # a field that does not fit is refused here, not at a step
    return _path(layers, copies, coupling)


def forward(layers: Layers, copies: Copies, coupling: float | None = None) -> Copies:
    """Both copies after the last layer."""
    return _end_of(_path(layers, copies, _required("reversible.forward", layers, copies, coupling)))


def backward(layers: Layers, copies: Copies, coupling: float | None = None) -> Copies:
    """Both copies before the first layer, from those after the last."""
    coupling, (y, z), h = _required("reversible.backward", layers, copies, coupling), copies, layers.size
    for layer, time in reversed(layers.places()):
        z = _moved(layers, layer, time + h, z, y, -h, -h)
        y = uncoupled(_moved(layers, layer, time, y, z, h, -h), z, coupling)
    return Copies(y, z)


def reversible(
    layers: Layers, z: Float[Tensor, "n *feature"], *, coupling: float | None = None, rebuild: bool = True
) -> Float[Tensor, "n *feature"]:
    """The state after the last layer, differentiable in z and in all parameters, with memory for one step only.

    coupling: λ, by default e^(−1/N) of the N steps. rebuild=False keeps all states, as autograd does by itself: the
    same values, and the gradient to compare with. A field with a `pull` of its own (`PulledField`) is faster.
    ValueError: an implicit method, a coupling outside (0, 1], or, to be rebuilt, a field with weights of its own.
    RunFailed, by the way back: the rebuilt start is off by more than √ε of the state's precision (1.5e-8 in float64,
    3.5e-4 in float32), relative to the larger of start and end, so that half of the digits are lost on the way.
    """
    coupling = _required("reversible", layers, Copies(z, z), coupling)
    kind("reversible", "rebuild", rebuild, bool, "True or False")
    if not rebuild:
        return _end_of(_path(layers, Copies(z, z), coupling)).y
    _require_own_params(layers, z)
    return _Rebuilt.apply(layers, coupling, z, *_unique(layers))  # pyright: ignore


def require_coupling(caller: str, coupling: float | None) -> None:
    """Refuse a λ outside (0, 1]."""
    if coupling is None:
        return
    positive(caller, "coupling", coupling, single=True)
    if coupling > 1:
        raise ValueError(f"{caller} needs a coupling of at most 1; got {coupling}. Leave it out for the default.")


def off_start(start: Tensor, end: Tensor, found: Sequence[Tensor]) -> float:
    """Largest distance of what was rebuilt from the start, relative to the larger of start and end; NaN if one is.

    0 where nothing can be said: start or end have no values or entries, or are no numbers themselves.
    """
    if without_values(start) or not start.numel() or not bool(start.isfinite().all() & end.isfinite().all()):
        return 0.0
    scale = torch.maximum(start.abs().amax(), end.abs().amax()).clamp(min=torch.finfo(start.dtype).tiny)
    norm = partial(torch.linalg.vector_norm, dtype=torch.float64)
    size = torch.maximum(norm(start / scale), norm(end / scale))
    distance = torch.stack([norm((each - start) / scale) for each in found]).amax()
    return float(distance / size) if size > 0 else float(distance)


def _require_rebuilt(start: Tensor, end: Tensor, found: Copies) -> None:
    off, close = off_start(start, end, found), torch.finfo(start.dtype).eps ** 0.5
    if off <= close:
        return
    raise RunFailed(
        f"reversible: the rebuilt start is off by {off:.2g} of the size of start or end, {close:.2g} at most is "
        "allowed, and the gradient would be wrong. Either rounding grows on the way back, as where the field contracts "
        "fast, or the field draws random numbers. Pass rebuild=False, coupling_of(steps, mu * T) for a field that "
        "contracts at rate mu, or float64."
    )


def _required(caller: str, layers: Layers, copies: Copies, coupling: float | None) -> float:
    """λ, where these copies can be stepped through these layers and back."""
    kind(caller, "copies", copies, Copies, "Copies(y, z)")
    require_layers(caller, layers, copies.z)
    shapes(caller, y=(copies.y, "n *feature"), z=(copies.z, "n *feature"))
    real(caller, y=copies.y)
    alike(caller, y=copies.y, z=copies.z)
    if not layers.tableau.explicit:
        raise ValueError(
            f"{caller} needs an explicit method; got {layers.tableau.name}. Gauss's methods are reversible as they "
            "are: step them with −h."
        )
    require_coupling(caller, coupling)
    return coupling_of(len(layers.params) * layers.substeps) if coupling is None else coupling


def _path(layers: Layers, copies: Copies, coupling: float) -> Iterator[Copies]:
    (y, z), h = copies, layers.size
    for layer, time in layers.places():
        y = _moved(layers, layer, time, coupled(y, z, coupling), z, h, h)
        z = _moved(layers, layer, time + h, z, y, -h, h)
        yield Copies(y, z)


def _end_of(course: Iterator[Copies]) -> Copies:
    return deque(course, maxlen=1)[0]


def _stages(
    layers: Layers, layer: int, time: float, z: Tensor, size: float, params: Params
) -> tuple[list[Tensor], list[Tensor]]:
    """The states at the stages of a step, and the velocities there, as far as the last one that counts."""
    tableau, states, slopes = layers.tableau, [z], [layers.velocity(time, z, params)]
    last = max(place for place, weight in enumerate(tableau.b) if weight)
    for row, share in zip(tableau.a[1 : last + 1], tableau.c[1 : last + 1], strict=True):
        (state,) = combine((z,), size, [(each,) for each in slopes], row[: len(slopes)])
        states.append(state)
        slopes.append(layers.velocity(time + share * size, state, params))
    return states, slopes


def _end(base: Tensor, factor: float, slopes: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    """base + factor Σ_i b_i k_i: one sum of the two, so that subtracting the same increment gives the base again."""
    return base + combine(None, factor, [(each,) for each in slopes], weights[: len(slopes)])[0]


def _moved(layers: Layers, layer: int, time: float, base: Tensor, z: Tensor, size: float, factor: float) -> Tensor:
    """base + factor Σ_i b_i k_i with the velocities of a step of this size from z: ±Ψ is added for factor = ±size."""
    slopes = _stages(layers, layer, time, z, size, layers.params[layer])[1]
    return _end(base, factor, slopes, layers.tableau.b)


def _require_own_params(layers: Layers, z: Tensor) -> None:
    """Refuse a field with weights that are not among the layers' parameters: they would get no gradient, in silence."""
    if not torch.is_grad_enabled() or isinstance(layers.field, PulledField):
        return
    params = {name: each.detach() for name, each in layers.params[0].items()}
    if layers.velocity(0.0, z.detach(), params).requires_grad:
        raise ValueError(
            "reversible needs all weights of the field among the parameters of its layers; this one has others, which "
            "would get no gradient. Hand them over in params, or pass rebuild=False."
        )


def _unique(layers: Layers) -> list[Tensor]:
    """The parameters of all layers, each tensor once."""
    return list({id(each): each for params in layers.params for each in params.values()}.values())


class _Rebuilt(torch.autograd.Function):
    """`forward`, whose derivative goes back step by step as `backward` does."""

    @staticmethod
    def forward(ctx: Any, layers: Layers, coupling: float, z: Tensor, *flat: Tensor) -> Tensor:  # type: ignore[override]
        end = _end_of(_path(layers, Copies(z, z), coupling))
        ctx.layers, ctx.coupling = layers, coupling
        ctx.save_for_backward(*end, z, *flat)
        return end.y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        (y, z, start, *_), layers, coupling = ctx.saved_tensors, ctx.layers, ctx.coupling  # raises for changed weights
        end, flat, h = y, _unique(layers), layers.size
        needed = dict(zip(map(id, flat), ctx.needs_input_grad[3:], strict=True))
        sums = {id(each): torch.zeros_like(each) for each in flat if needed[id(each)]}
        pulls = None
        p_y, p_z = gradient.clone(), torch.zeros_like(gradient)
        for layer, time in reversed(layers.places()):
            if pulls is None or pulls.layer != layer:
                pulls = _Pulls(layers, layer, sums)
            z, back = pulls(time + h, z, y, -h, p_z)
            p_y += back
            y, back = pulls(time, y, z, h, p_y)
            y = uncoupled(y, z, coupling)
            p_z.add_(p_y, alpha=1 - coupling).add_(back)
            p_y *= coupling
        _require_rebuilt(start, end, Copies(y, z))
        return None, None, p_y + p_z, *(sums.get(id(each)) for each in flat)


class _Pulls:
    """Steps of one layer on the way back; what reaches its parameters is added to `sums`, by the tensors' ids."""

    def __init__(self, layers: Layers, layer: int, sums: Mapping[int, Tensor]) -> None:
        self.layers, self.layer = layers, layer
        own = layers.params[layer]
        self.sums = {name: sums[id(each)] for name, each in own.items() if id(each) in sums}
        self.params = {name: each.detach().requires_grad_(name in self.sums) for name, each in own.items()}
        self.leaves = [self.params[name] for name in self.sums]
        self.known = isinstance(layers.field, PulledField)

    def __call__(self, time: float, base: Tensor, z: Tensor, size: float, adjoint: Tensor) -> tuple[Tensor, Tensor]:
        """base − h Σ_i b_i k_i with the velocities of a step of ±h from z, and h (∂ Σ_i b_i k_i/∂z)ᵀ p."""
        return (self._by_hand if self.known else self._by_graph)(time, base, z, size, adjoint)

    def _by_graph(self, time: float, base: Tensor, z: Tensor, size: float, adjoint: Tensor) -> tuple[Tensor, Tensor]:
        with torch.enable_grad():
            leaf = z.detach().requires_grad_()
            slopes = _stages(self.layers, self.layer, time, leaf, size, self.params)[1]
        b, h = self.layers.tableau.b, self.layers.size
        end = _end(base, -h, [each.detach() for each in slopes], b)
        moving = [(each, weight) for each, weight in zip(slopes, b, strict=False) if weight and each.requires_grad]
        if not moving:
            return end, torch.zeros_like(z)
        outputs, pushed = zip(*((each, adjoint * (h * weight)) for each, weight in moving), strict=True)
        back, *changes = torch.autograd.grad(outputs, [leaf, *self.leaves], pushed, allow_unused=True)
        for total, change in zip(self.sums.values(), changes, strict=True):
            if change is not None:
                total += change
        return end, torch.zeros_like(z) if back is None else back

    def _by_hand(self, time: float, base: Tensor, z: Tensor, size: float, adjoint: Tensor) -> tuple[Tensor, Tensor]:
        """Λ_i = h b_i p ± h Σ_j a_ji w_j,  w_i = ∂f/∂zᵀ Λ_i at stage i, from the last to the first; back = Σ_i w_i."""
        tableau, h = self.layers.tableau, self.layers.size
        states, slopes = _stages(self.layers, self.layer, time, z, size, self.params)
        end = _end(base, -h, slopes, tableau.b)
        field, places = cast(PulledField, self.layers.field), range(len(slopes))
        backs: list[tuple[Tensor, ...]] = []  # from the last stage
        for i in reversed(places):
            own = adjoint * (h * tableau.b[i])
            if backs:
                (own,) = combine((own,), size, backs, [tableau.a[j][i] for j in reversed(places[i + 1 :])])
            at = time + tableau.c[i] * size
            backs.append((field.pull(at, states[i], slopes[i], self.params, own, self.sums),))
        return end, backs[0][0] if len(backs) == 1 else combine(None, 1.0, backs, [1.0] * len(backs))[0]
