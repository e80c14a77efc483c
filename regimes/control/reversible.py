"""Any explicit method made reversible, so that back-propagation rebuilds states instead of keeping them.

Two copies y, z of the state take turns, with the increment Ψ_h(z) = h Σ_i b_i k_i of one step of the method:
    y⁺ = λ y + (1 − λ) z + Ψ_h(z),   z⁺ = z − Ψ_{−h}(y⁺);
    z = z⁺ + Ψ_{−h}(y⁺),   y = (y⁺ − Ψ_h(z))/λ + (1 − 1/λ) z.
The second line undoes the first exactly, up to rounding, which a step back multiplies by 1/λ: after n steps about
λ^(−n) times the rounding of one. λ < 1 damps what separates the copies on the way forward. The pair has the order of
the method. Source: [McCallumFoster2024].
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from regimes.checks import kind, positive
from regimes.control.arithmetic import combine
from regimes.control.layers import Layers, Params, require_layers
from regimes.control.stepper import step

COUPLING = 0.999


class Copies(NamedTuple):
    """Both copies of the state; y is the one that counts."""

    y: Float[Tensor, "n *feature"]
    z: Float[Tensor, "n *feature"]


def increment(layers: Layers, layer: int, time: float, z: Tensor, size: float) -> Tensor:
    """Ψ of one step of a layer from a time, of a size that may be negative."""
    taken = step(layers.at(layer), layers.tableau, time, (z,), size)
    return combine(None, size, taken.slopes, layers.tableau.b)[0]


def forward(layers: Layers, copies: Copies, coupling: float = COUPLING) -> Copies:
    """Both copies after the last layer."""
    y, z = copies
    for layer, time in layers.places():
        y = coupling * y + (1 - coupling) * z + increment(layers, layer, time, z, layers.size)
        z = z - increment(layers, layer, time + layers.size, y, -layers.size)
    return Copies(y, z)


def backward(layers: Layers, copies: Copies, coupling: float = COUPLING) -> Copies:
    """Both copies before the first layer, from those after the last."""
    y, z = copies
    for layer, time in reversed(layers.places()):
        z = z + increment(layers, layer, time + layers.size, y, -layers.size)
        y = (y - increment(layers, layer, time, z, layers.size)) / coupling + (1 - 1 / coupling) * z
    return Copies(y, z)


def reversible(
    layers: Layers, z: Float[Tensor, "n *feature"], *, coupling: float = COUPLING, rebuild: bool = True
) -> Float[Tensor, "n *feature"]:
    """The state after the last layer, differentiable in z and in all parameters, with memory for one step only.

    rebuild=False keeps all states, as autograd does by itself: the same values, and the gradient to compare with.
    ValueError: an implicit method, or a coupling outside (0, 1].
    """
    require_layers("reversible", layers, z)
    if not layers.tableau.explicit:
        raise ValueError(
            f"reversible needs an explicit method; got {layers.tableau.name}. Gauss's methods are reversible as they "
            "are: step them with −h."
        )
    positive("reversible", "coupling", coupling, single=True)
    if coupling > 1:
        raise ValueError(f"reversible needs a coupling of at most 1; got {coupling}. Take 0.999, for example.")
    kind("reversible", "rebuild", rebuild, bool, "True or False")
    if not rebuild:
        return forward(layers, Copies(z, z), coupling).y
    return _Rebuilt.apply(layers, coupling, z, *(each for params in layers.params for each in params.values()))  # pyright: ignore


def _in_places(layers: Layers, flat: Sequence[Tensor]) -> Layers:
    """The layers with these tensors for parameters."""
    rest = iter(flat)
    return layers._replace(params=[{name: next(rest) for name in params} for params in layers.params])


class _Rebuilt(torch.autograd.Function):
    """`forward`, whose derivative goes back step by step with `backward`."""

    @staticmethod
    def forward(ctx, layers: Layers, coupling: float, z: Tensor, *flat: Tensor) -> Tensor:  # pyright: ignore
        end = forward(_in_places(layers, flat), Copies(z, z), coupling)
        ctx.layers, ctx.coupling = layers, coupling
        ctx.save_for_backward(*end, *flat)
        return end.y

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient: Tensor):  # pyright: ignore
        y, z, *flat = ctx.saved_tensors
        layers, coupling = _in_places(ctx.layers, flat), ctx.coupling
        sums: list[Params] = [{name: torch.zeros_like(each) for name, each in one.items()} for one in layers.params]
        p_y, p_z = gradient, torch.zeros_like(gradient)
        for layer, time in reversed(layers.places()):
            moved, back = _pulled(layers, layer, time + layers.size, y, -layers.size, -p_z, sums[layer])
            z, p_y = z + moved, p_y + back
            moved, back = _pulled(layers, layer, time, z, layers.size, p_y, sums[layer])
            y = (y - moved) / coupling + (1 - 1 / coupling) * z
            p_y, p_z = coupling * p_y, p_z + (1 - coupling) * p_y + back
        return None, None, p_y + p_z, *(each for one in sums for each in one.values())


def _pulled(
    layers: Layers, layer: int, time: float, z: Tensor, size: float, adjoint: Tensor, sums: Params
) -> tuple[Tensor, Tensor]:
    """Ψ at z, and its pull-back of the adjoint to z; that to the parameters is added to `sums`."""
    with torch.enable_grad():
        leaf = z.detach().requires_grad_()
        params = {name: each.detach().requires_grad_() for name, each in layers.params[layer].items()}
        own = layers._replace(params=[*layers.params[:layer], params, *layers.params[layer + 1 :]])
        moved = increment(own, layer, time, leaf, size)
    options = {"allow_unused": True, "materialize_grads": True}
    back, *changes = torch.autograd.grad(moved, [leaf, *params.values()], adjoint, **options)
    for name, change in zip(params, changes, strict=True):
        sums[name] += change
    return moved.detach(), back
