"""Training by forward and backward sweeps: the method of successive approximations, with backtracking.

Minimise J(θ) = C(z(T)) + decay/2 Σ_l ‖θ_l‖² over the parameters of the layers z_{l+1} = Φ_l(z_l, θ_l). With the adjoint
p_{l+1} = ∂C/∂z_{l+1} and the Hamiltonian of a layer
    H_l(θ) = −⟨p_{l+1}, Φ_l(z_l, θ)⟩,
every minimiser satisfies ∇H_l(θ_l) = decay·θ_l at each layer (Pontryagin's principle, for discrete time). A sweep is:
1. forward: the states z_l;  2. backward: the adjoints p_l;
3. at each layer on its own, with states and adjoints held: θ_l⁺ = argmax_θ H_l(θ) − decay/2 ‖θ‖² − ‖θ − θ_l‖²/(2 s),
   by the iteration θ ← (θ_l + s ∇H_l(θ))/(1 + s·decay) from θ_l, `ascents` times;
4. J is computed at θ⁺. If it has fallen as the rule asks, θ⁺ is taken and s grows; else s shrinks, and back to 3.
∇H_l(θ_l) = −∂C/∂θ_l, so that one ascent without decay is gradient descent by back-propagation; more ascents come nearer
to the maximum, where s times the Lipschitz constant of ∇H_l is below 1. Where θ enters linearly one ascent is the
maximum itself, and with s = ∞ the step is the plain method of successive approximations, which need not converge:
the term ‖θ − θ_l‖²/(2 s) and backtracking are what makes J fall in every sweep.
Source: [Benning2019] for descent with backtracking on sweeps, [LiChen2018] for the method in deep learning.
"""

from collections.abc import Callable, Iterator, Sequence
from math import isfinite
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from regimes.checks import count, function, given, not_negative, positive
from regimes.control.backtracking import UPPER_BOUND, Rule, require_rule
from regimes.control.gradients import Cost, Gradients, discretise_then_optimise
from regimes.control.layers import Layers, Params, require_layers
from regimes.errors import RunFailed

Road = Callable[[Layers, Tensor, Cost], Gradients]
MOST = 200  # refused trials in a row, after which the descent has ended


class Swept(NamedTuple):
    """Where the sweeps stand: J, the layers with their parameters, the next step s, and the sweeps made so far.

    forward, backward: passes of all samples through all layers; an ascent beyond the first is one of each. On a road
    that keeps no states (`Gradients.states`) they are computed once after a sweep is taken, one pass forward more.
    """

    cost: float
    layers: Layers
    step: float
    forward: int
    backward: int


def forward_backward_sweeps(
    layers: Layers,
    z: Float[Tensor, "n *feature"],
    cost: Cost,
    *,
    rule: Rule = UPPER_BOUND,
    ascents: int = 1,
    decay: float = 0.0,
    road: Road = discretise_then_optimise,
) -> Iterator[Swept]:
    """The start, then the state after each sweep that was taken; the caller says when it is enough.

    road: how the adjoints come: `discretise_then_optimise`, or `optimise_then_discretise` by the symplectic partner,
    which is the same to rounding; a road whose gradient is another (a companion that is not symplectic) may find no
    step that lowers J. Ends by itself where no trial of 200 in a row is taken or none changes the parameters: at a
    stationary point, to rounding. A trial where J or its gradient is not finite is refused. RunFailed: one of them is
    not at the start.
    """
    require_layers("forward_backward_sweeps", layers, z)
    given("forward_backward_sweeps", cost=cost, road=road)
    function("forward_backward_sweeps", cost=cost, road=road)
    require_rule("forward_backward_sweeps", rule)
    count("forward_backward_sweeps", "ascents", ascents)
    not_negative("forward_backward_sweeps", "decay", decay, single=True)
    with torch.no_grad():
        layers.velocity(0.0, z, layers.params[0])  # a field that does not fit is refused here, not at the first sweep
    return _sweeps(layers, z, cost, rule, ascents, decay, road)


def _sweeps(
    layers: Layers, z: Tensor, cost: Cost, rule: Rule, ascents: int, decay: float, road: Road
) -> Iterator[Swept]:
    layers = layers._replace(params=[{name: each.detach() for name, each in one.items()} for one in layers.params])
    found = road(layers, z, cost)
    value, step, forward, backward, refused = _total(found, layers, decay), rule.first, 1, 1, 0
    if not isfinite(value):
        raise RunFailed(f"forward_backward_sweeps needs a finite cost at the start; got {value}. Change the start.")
    if not _finite(found):
        raise RunFailed("forward_backward_sweeps needs a finite gradient at the start. Change the start.")
    states = found.states
    yield Swept(value, layers, step, forward, backward)
    while refused < MOST:
        if states is None and ascents > 1:
            states, forward = _states(layers, z), forward + 1
        params = maximised(layers, z, found, step, ascents=ascents, decay=decay, states=states)
        moved = layers._replace(params=params)
        after = road(moved, z, cost)
        new = _total(after, moved, decay)
        forward, backward = forward + ascents, backward + ascents
        slope, square = _change(layers, moved, found, decay)
        allowed = rule.share * slope + rule.curvature * square / (2 * step)
        if isfinite(new) and new <= value + allowed and _finite(after):
            if square == 0:
                return
            layers, found, states, value, refused = moved, after, after.states, new, 0
            step = min(step * rule.longer, rule.longest)
            yield Swept(value, layers, step, forward, backward)
        else:
            step, refused = step * rule.shorter, refused + 1


def maximised(
    layers: Layers,
    z: Float[Tensor, "n *feature"],
    gradients: Gradients,
    step: float,
    *,
    ascents: int = 1,
    decay: float = 0.0,
    states: Sequence[Float[Tensor, "n *feature"]] | None = None,
) -> list[Params]:
    """θ_l⁺ of each layer: see the module. gradients: cost, adjoints and ∂C/∂θ at the layers' parameters, from z.

    states: before each step and at the end; those of the gradients by default, and where these have none either and
    they are needed, by a pass forward.
    """
    require_layers("maximised", layers, z)
    positive("maximised", "step", step, single=True)
    count("maximised", "ascents", ascents)
    not_negative("maximised", "decay", decay, single=True)
    factor = 1 / (1 + step * decay)
    params = [
        {name: factor * (each - step * change[name]) for name, each in one.items()}
        for one, change in zip(layers.params, gradients.params, strict=True)
    ]
    if ascents == 1:
        return params
    states = gradients.states if states is None else states
    states = _states(layers, z) if states is None else states
    for _ in range(ascents - 1):
        slopes = [hamiltonian_slope(layers, layer, params[layer], states, gradients) for layer in range(len(params))]
        params = [
            {name: factor * (each + step * slope[name]) for name, each in one.items()}
            for one, slope in zip(layers.params, slopes, strict=True)
        ]
    return params


@torch.no_grad()
def _states(layers: Layers, z: Tensor) -> list[Tensor]:
    """Before each step, and at the end."""
    return [z, *(each.end[0] for each in layers.steps(z))]


def hamiltonian_slope(
    layers: Layers, layer: int, params: Params, states: Sequence[Tensor], gradients: Gradients
) -> Params:
    """∇H_l at `params`, with the states (before each step, and at the end) and adjoints of the layers' own."""
    first = layer * layers.substeps
    leaves = {name: each.detach().requires_grad_() for name, each in params.items()}
    replaced = list(layers.params)
    replaced[layer] = leaves
    own, at = layers._replace(params=replaced), states[first]
    with torch.enable_grad():
        for number in range(first, first + layers.substeps):
            at = own.step(layer, number * layers.size, at).end[0]
        value = -(gradients.adjoints[first + layers.substeps] * at).sum()
    slopes = torch.autograd.grad(value, list(leaves.values()), allow_unused=True, materialize_grads=True)
    return dict(zip(leaves, slopes, strict=True))


def _finite(found: Gradients) -> bool:
    """Whether ∂C/∂θ is, in all parameters."""
    return all(bool(each.isfinite().all()) for one in found.params for each in one.values())


def _total(found: Gradients, layers: Layers, decay: float) -> float:
    """J."""
    squares = sum(float(each.square().sum()) for one in layers.params for each in one.values())
    return float(found.cost) + decay / 2 * squares


def _change(before: Layers, after: Layers, found: Gradients, decay: float) -> tuple[float, float]:
    """⟨∇J, d⟩ and ‖d‖² of the change d of all parameters."""
    slope = square = 0.0
    for old, new, change in zip(before.params, after.params, found.params, strict=True):
        for name, each in old.items():
            d = new[name] - each
            slope += float(((change[name] + decay * each) * d).sum())
            square += float(d.square().sum())
    return slope, square
