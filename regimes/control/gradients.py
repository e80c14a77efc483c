"""Gradients of a cost C(z(T)) through the layers of a network, by different roads with one signature.

The Hamiltonian boundary value problem of training: z' = f(t, z, θ), z(0) given; p' = −∂f/∂zᵀ p, p(T) = ∇C(z(T)); and
    dC/dθ_l = ∫ ∂f/∂θᵀ p dt over layer l.
`discretise_then_optimise` differentiates the steps; `optimise_then_discretise` steps the adjoint p by a companion of
the method. The two agree to rounding if and only if the pair keeps ⟨p, δz⟩, that is for the symplectic partner; for
others they differ at the order of the pair. Every road returns the adjoint before each step, and after the last.
Source: [SanzSerna2016], [Benning2019].
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from regimes.checks import function, given
from regimes.control.layers import Layers, Params, require_layers
from regimes.control.stepper import Parts, Size, settled, stages, step

Cost = Callable[[Tensor], Tensor]


class Gradients(NamedTuple):
    """cost: C(z(T)); adjoints: p before each step and at the end; params: dC/dθ_l by layer and name.

    states: z before each step and at the end, of the way forward; None on a road that does not keep them.
    """

    cost: Float[Tensor, ""]
    adjoints: Float[Tensor, "cuts n *feature"]
    params: list[Params]
    states: Sequence[Float[Tensor, "n *feature"]] | None = None


def discretise_then_optimise(layers: Layers, z: Float[Tensor, "n *feature"], cost: Cost) -> Gradients:
    """The exact gradient of the discrete network, by back-propagation through its steps."""
    value, states, leaves = _forward(
        layers, z, cost, lambda own, layer, time, state: own.step(layer, time, state).end[0]
    )
    return _found(value, states, leaves)


def checkpointed(layers: Layers, z: Float[Tensor, "n *feature"], cost: Cost) -> Gradients:
    """The same gradient, each step computed again on the way back: only the states between steps are kept.

    Source: [Gholami2019].
    """

    def again(own: Layers, layer: int, time: float, state: Tensor) -> Tensor:
        return checkpoint(lambda start: own.step(layer, time, start).end[0], state, use_reentrant=False)  # pyright: ignore

    value, states, leaves = _forward(layers, z, cost, again)
    return _found(value, states, leaves)


def optimise_then_discretise(
    layers: Layers,
    z: Float[Tensor, "n *feature"],
    cost: Cost,
    *,
    companion: Sequence[Sequence[float]] | None = None,
) -> Gradients:
    """The adjoint equation, stepped with weights b and coefficients ã = `companion`; the symplectic partner if None.

    Λ_i = p⁺ + h Σ_j (b_j − ã_ij) J_jᵀ Λ_j,  p = p⁺ + h Σ_j b_j J_jᵀ Λ_j,  dC/dθ = h Σ_j b_j ∂f/∂θ(Z_j)ᵀ Λ_j,
    J_j = ∂f/∂z at the stages Z_j of the forward step. Where b_j − ã_ij is not triangular the Λ_i are iterated. Pass the
    method's own `tableau.a` for the adjoint by the same method.
    """
    require_layers("optimise_then_discretise", layers, z)
    given("optimise_then_discretise", cost=cost)
    function("optimise_then_discretise", cost=cost)
    tableau = layers.tableau
    chosen = tableau.partner() if companion is None else companion
    if [len(row) for row in chosen] != [tableau.stages] * tableau.stages:
        raise ValueError(
            f"optimise_then_discretise needs a companion of {tableau.stages} rows and columns, as {tableau.name}; got "
            f"rows of {[len(row) for row in chosen]}. Pass tableau.partner() or tableau.a."
        )
    with torch.no_grad():
        taken = list(layers.steps(z))
    states = [z, *(each.end[0] for each in taken)]
    value, adjoint = _at_the_end(states[-1], cost)
    adjoints, sums = [adjoint], _zeros(layers.params)
    for number, (layer, time) in reversed(list(enumerate(layers.places()))):
        at = stages(tableau, (states[number],), layers.size, taken[number].slopes)
        pulls = [
            _Pull(layers, layer, time + share * layers.size, each[0]) for share, each in zip(tableau.c, at, strict=True)
        ]
        found = _adjoint_stages(tableau.b, chosen, layers.size, pulls, adjoint, tableau.name)
        for weight, pull, each in zip(tableau.b, pulls, found, strict=True):
            back, changes = pull(each)
            adjoint = adjoint + layers.size * weight * back
            for name, change in changes.items():
                sums[layer][name] += layers.size * weight * change
        adjoints.append(adjoint)
    return Gradients(value, torch.stack(adjoints[::-1]), sums, states)


def backwards_in_time(layers: Layers, z: Float[Tensor, "n *feature"], cost: Cost) -> Gradients:
    """States, adjoint and gradient solved together from T to 0 by the same explicit method: only the end is kept.

    The states come back with the error of the method, and on contracting fields that error grows.
    Source: [Chen2018].
    """
    require_layers("backwards_in_time", layers, z)
    given("backwards_in_time", cost=cost)
    function("backwards_in_time", cost=cost)
    with torch.no_grad():
        state = layers.end(z)
    value, adjoint = _at_the_end(state, cost)
    adjoints, sums = [adjoint], _zeros(layers.params)
    for layer, time in reversed(layers.places()):
        names = list(layers.params[layer])

        def field(now: Size, parts: Parts, layer: int = layer, names: list[str] = names) -> Parts:
            pull = _Pull(layers, layer, float(now), parts[0])
            back, changes = pull(parts[1])
            return pull.value, -back, *(-changes[name] for name in names)

        start = (state, adjoint, *(sums[layer][name] for name in names))
        state, adjoint, *changed = step(field, layers.tableau, time + layers.size, start, -layers.size).end
        sums[layer] = dict(zip(names, changed, strict=True))
        adjoints.append(adjoint)
    return Gradients(value, torch.stack(adjoints[::-1]), sums)


class _Pull:
    """f at one place, and its pull-backs ∂f/∂zᵀ p and ∂f/∂θᵀ p."""

    def __init__(self, layers: Layers, layer: int, time: float, z: Tensor) -> None:
        self.z = z.detach().requires_grad_()
        self.params = {name: each.detach().requires_grad_() for name, each in layers.params[layer].items()}
        with torch.enable_grad():
            self.moved = layers.velocity(time, self.z, self.params)
        self.value = self.moved.detach()

    def of_state(self, adjoint: Tensor) -> Tensor:
        options = {"retain_graph": True, "allow_unused": True, "materialize_grads": True}
        return torch.autograd.grad(self.moved, [self.z], adjoint, **options)[0]

    def __call__(self, adjoint: Tensor) -> tuple[Tensor, Params]:
        options = {"retain_graph": True, "allow_unused": True, "materialize_grads": True}
        back, *changes = torch.autograd.grad(self.moved, [self.z, *self.params.values()], adjoint, **options)
        return back, dict(zip(self.params, changes, strict=True))


def _adjoint_stages(
    b: Sequence[float], companion: Sequence[Sequence[float]], size: float, pulls: list[_Pull], end: Tensor, name: str
) -> list[Tensor]:
    """Λ_i = p⁺ + h Σ_j (b_j − ã_ij) J_jᵀ Λ_j: from the last to the first where that goes, else iterated."""
    count = len(b)
    weights = [[b[j] - companion[i][j] for j in range(count)] for i in range(count)]
    # Zero by the coefficients of an explicit method's partner, up to the rounding of b_j a_ji / b_i.
    weights = [[0.0 if abs(each) < 1e-15 else each for each in row] for row in weights]

    def of(i: int, back: Sequence[Tensor | None]) -> Tensor:
        found = end
        for weight, each in zip(weights[i], back, strict=True):
            if weight and each is not None:
                found = found + size * weight * each
        return found

    if all(weights[i][j] == 0 for i in range(count) for j in range(i + 1)):
        found: list[Tensor] = [end] * count
        back: list[Tensor | None] = [None] * count
        for i in reversed(range(count)):
            found[i] = of(i, back)
            back[i] = pulls[i].of_state(found[i])
        return found

    def sweep(now: Sequence[tuple[Tensor, ...]]) -> list[tuple[Tensor, ...]]:
        pulled = [pull.of_state(each[0]) for pull, each in zip(pulls, now, strict=True)]
        return [(of(i, pulled),) for i in range(count)]

    return [each[0] for each in settled(sweep, [(end,)] * count, f"the adjoint of {name}")]


def _forward(
    layers: Layers, z: Tensor, cost: Cost, move: Callable[[Layers, int, float, Tensor], Tensor]
) -> tuple[Tensor, list[Tensor], list[Params]]:
    """The cost, the states before each step and at the end, and the parameters, with their graph."""
    require_layers("the gradient", layers, z)
    given("the gradient", cost=cost)
    function("the gradient", cost=cost)
    leaves = [{name: each.detach().requires_grad_() for name, each in params.items()} for params in layers.params]
    own = layers._replace(params=leaves)
    states = [z.detach().requires_grad_()]
    with torch.enable_grad():
        for layer, time in layers.places():
            states.append(move(own, layer, time, states[-1]))
        value = cost(states[-1])
    return _scalar(value), states, leaves


def _found(value: Tensor, states: list[Tensor], leaves: list[Params]) -> Gradients:
    """By back-propagation to the states and the parameters."""
    found = torch.autograd.grad(value, [*states, *_flat(leaves)], allow_unused=True, materialize_grads=True)
    adjoints, params = torch.stack(found[: len(states)]), _unflat(found[len(states) :], leaves)
    return Gradients(value.detach(), adjoints, params, [each.detach() for each in states])


def _at_the_end(state: Tensor, cost: Cost) -> tuple[Tensor, Tensor]:
    """C(z(T)) and p(T)."""
    with torch.enable_grad():
        end = state.detach().requires_grad_()
        value = _scalar(cost(end))
    return value.detach(), torch.autograd.grad(value, end)[0]


def _scalar(value: Tensor) -> Tensor:
    if not isinstance(value, Tensor) or value.ndim:
        shape = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
        raise ValueError(f"the gradient needs a cost that is one number; got {shape}. Take a mean or a sum.")
    if not value.requires_grad:
        raise ValueError(
            "the gradient needs a cost that depends on the state by operations of torch; this one has no derivative. "
            "Look for .item(), .detach() and torch.no_grad() in it."
        )
    return value


def _zeros(params: Sequence[Params]) -> list[Params]:
    return [{name: torch.zeros_like(each) for name, each in one.items()} for one in params]


def _flat(params: Sequence[Params]) -> list[Tensor]:
    return [each for one in params for each in one.values()]


def _unflat(found: Sequence[Tensor], like: Sequence[Params]) -> list[Params]:
    rest = iter(found)
    return [{name: next(rest) for name in one} for one in like]
