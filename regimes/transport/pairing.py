"""The gap of a pairing x_i → y_i: what it costs above the optimal pairing of the same two clouds, certified."""

import math
from typing import Any, NamedTuple

import torch

from regimes.transport.cost import Matrix, Others, Points, as_pairing, check_exponent, extent, paired_cost
from regimes.transport.discrete import Transport, exact_transport
from regimes.transport.monotone import Cycle, rearrangement_cycles
from regimes.transport.showing import Shown
from regimes.transport.span import span
from regimes.transport.units import converted, fits, lost, no_room, unit_of


class Gap(NamedTuple):
    """How far a pairing is from optimal, for the cost ‖x − y‖^p averaged over points (norm over features, no ½).

    Costs: `cost_network` of the pairing itself, `cost_ot` of the optimal one; `gap` is their difference, `relative_gap`
    = gap / cost_network. The last three are None unless certified. Bracket, which always holds: cost_ot ∈ [dual_value,
    cost_ot_high], gap ∈ [gap_low, gap_high]. Certificate: `max_violation` is how far the solver's potentials broke an
    inequality at most before they were lowered to feasibility. `worst_cycle` is the cycle of the best plan met that
    saves most: of length 0 if and only if that plan is the pairing itself. `unit` is 1; where float64 cannot hold the
    costs it is another length, and all costs are in unit^p. Relative numbers do not depend on it.
    """

    cost_network: float
    cost_ot: float | None
    gap: float | None
    relative_gap: float | None
    certified: bool
    gap_low: float
    gap_high: float
    cost_ot_high: float
    dual_value: float
    max_violation: float
    worst_cycle: Cycle
    points: int
    dim: int
    p: float
    unit: float = 1.0

    @property
    def relative_low(self) -> float:
        """gap_low / cost_network, 0 where nothing moves: the relative gap as far as it is proved."""
        return self.gap_low / self.cost_network if self.cost_network > 0 else 0.0

    @property
    def relative_high(self) -> float:
        """gap_high / cost_network, 0 where nothing moves."""
        return self.gap_high / self.cost_network if self.cost_network > 0 else 0.0


def exact_gap(
    x: Points,
    t_of_x: Others,
    p: float = 2.0,
    *,
    tolerance: float = 1e-10,
    rounds: int = 100,
    seconds: float = math.inf,
    device: torch.device | str = "cpu",
    progress: bool | Shown = False,
) -> Gap:
    """Certified gap 1/n Σ_i ‖x_i − T(x_i)‖^p − min over permutations; never negative.

    The pairing itself is where the solver starts. Clouds of d > 2 n are solved in n + 1 coordinates that keep the
    costs. The options are those of `exact_transport`.
    """
    p = check_exponent(p, "exact_gap")
    x_array, t_array = as_pairing("exact_gap", p, any_size=True, x=x, t_of_x=t_of_x)
    dim, size, unit = x_array.shape[1], extent(x_array, t_array), unit_of(x_array, t_array, p)
    x_array, t_array = x_array / unit, t_array / unit
    short = span(x_array)
    if short is not None and short.keeps(t_array):
        x_array, t_array = short.x_short, short.images(t_array)
    limits: dict[str, Any] = {"tolerance": tolerance, "rounds": rounds, "seconds": seconds}
    solved = exact_transport(x_array, t_array, p=p, paired=True, **limits, device=device, progress=progress)
    found = pairing_gap(x_array, t_array, solved, p)
    return _in_units_of_the_points(found._replace(dim=dim, unit=found.unit * unit), size)


COSTS = ("cost_network", "cost_ot", "gap", "gap_low", "gap_high", "cost_ot_high", "dual_value", "max_violation")


def _in_units_of_the_points(found: Gap, size: float) -> Gap:
    """The same gap in user units, where these can hold the costs of clouds of extent 10^size."""
    held = (found.cost_network, found.cost_ot_high, max(found.dual_value, 0))
    if found.unit == 1 or not fits(found.unit, found.p, size, *held):
        return found
    costs = {name: getattr(found, name) for name in COSTS}
    back = {name: None if cost is None else converted(cost, found.unit, found.p) for name, cost in costs.items()}
    worst = found.worst_cycle._replace(gain=converted(found.worst_cycle.gain, found.unit, found.p))
    return found._replace(**back, worst_cycle=worst, unit=1.0)


def pairing_gap(x: Matrix, t: Matrix, solved: Transport, p: float) -> Gap:
    """The gap of the pairing x_i → t_i, given the outcome of the exact solve between these two clouds, in its unit."""
    x, t = as_pairing("pairing_gap", p, any_size=True, x=x, t=t)
    x, t = x / solved.unit, t / solved.unit
    cost = math.fsum(paired_cost(x, t, p)) / len(x)
    if lost(cost, x, t):
        raise no_room("pairing_gap", p)
    gap_low, gap_high = cost - solved.primal, cost - solved.dual_value
    cycles = rearrangement_cycles(x, t, solved.plan, p=p)
    return Gap(
        cost_network=cost,
        cost_ot=solved.cost,
        gap=gap_low if solved.certified else None,
        relative_gap=(gap_low / cost if cost > 0 else 0.0) if solved.certified else None,
        certified=solved.certified,
        gap_low=gap_low,
        gap_high=gap_high,
        cost_ot_high=solved.primal,
        dual_value=solved.dual_value,
        max_violation=solved.max_violation,
        worst_cycle=max(cycles, key=lambda cycle: cycle.gain, default=Cycle(0, 0.0, ())),
        points=x.shape[0],
        dim=x.shape[1],
        p=float(p),
        unit=solved.unit,
    )
