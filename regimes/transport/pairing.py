"""The gap of a pairing x_i → y_i: what it costs above the optimal pairing of the same two clouds, certified."""

import math
from typing import NamedTuple

import torch
from jaxtyping import Float
from numpy import ndarray
from torch import Tensor

from regimes.transport.cost import Matrix, Points, as_pairing, check_exponent, paired_cost
from regimes.transport.discrete import Transport, exact_transport
from regimes.transport.monotone import Cycle, rearrangement_cycles
from regimes.transport.span import span


class Gap(NamedTuple):
    """How far a pairing is from optimal, for the cost ‖x − y‖^p averaged over points (norm over features, no ½).

    Costs: `cost_network` of the pairing itself, `cost_ot` of the optimal one; `gap` is their difference, `relative_gap`
    = gap / cost_network. The last three are None unless certified. Bracket, which always holds: cost_ot ∈ [dual_value,
    cost_ot_high], gap ∈ [gap_low, gap_high]. Certificate: `max_violation` is how far the solver's potentials broke an
    inequality at most before they were lowered to feasibility. `worst_cycle` is the cycle of the best plan met that
    saves most: of length 0 if and only if that plan is the pairing itself.
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
    t_of_x: Float[Tensor, "m *other"] | Float[ndarray, "m *other"],
    p: float = 2.0,
    *,
    tolerance: float = 1e-10,
    rounds: int = 100,
    seconds: float = math.inf,
    device: torch.device | str = "cpu",
) -> Gap:
    """Certified gap 1/n Σ_i ‖x_i − T(x_i)‖^p − min over permutations; never negative.

    The pairing itself is where the solver starts. Clouds of d > 2 n are solved in n + 1 coordinates that keep the
    costs. The options are those of `exact_transport`.
    """
    p = check_exponent(p, "exact_gap")
    x_array, t_array = as_pairing("exact_gap", p, x=x, t_of_x=t_of_x)
    dim = x_array.shape[1]
    short = span(x_array)
    if short is not None:
        x_array, t_array = short[1], short[0].coordinates(t_array)
    solved = exact_transport(
        x_array, t_array, p=p, paired=True, tolerance=tolerance, rounds=rounds, seconds=seconds, device=device
    )
    return pairing_gap(x_array, t_array, solved, p)._replace(dim=dim)


def pairing_gap(x: Matrix, t: Matrix, solved: Transport, p: float) -> Gap:
    """The gap of the pairing x_i → t_i, given the outcome of the exact solve between these two clouds."""
    x, t = as_pairing("pairing_gap", p, x=x, t=t)
    cost = math.fsum(paired_cost(x, t, p)) / len(x)
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
    )
