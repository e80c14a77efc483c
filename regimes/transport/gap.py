"""The gap of a map: what its own pairing x_i → T(x_i) costs above the optimal one between the same two clouds."""

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from regimes.transport.brenier import Map, brenier_test
from regimes.transport.cost import Matrix, Points, as_matrix, check_exponent, paired_cost
from regimes.transport.discrete import Transport, exact_transport
from regimes.transport.energy import Path
from regimes.transport.energy import straightness as straightness_of
from regimes.transport.monotone import Cycle, rearrangement_cycles
from regimes.transport.span import span

if TYPE_CHECKING:
    from regimes.transport.power import Power


class Gap(NamedTuple):
    """How far a pairing is from optimal, for the cost ‖x − y‖^p averaged over points (norm over features, no ½).

    `cost_ot`, `gap` and `relative_gap` (gap / cost_network) are None unless certified; the brackets always hold:
    cost_ot ∈ [dual_value, cost_ot_high] and gap ∈ [gap_low, gap_high]. `worst_cycle` is the largest cost (summed over
    its points) that a single cycle of the best plan met saves: 0 if and only if that plan is the network's own
    pairing; `worst_cycle_length` is the number of points on it. The last five are None unless asked for: the fields of
    `BrenierTest` for the map as a callable, `energy.straightness` of the path, `Power` for the same points.
    """

    cost_network: float
    cost_ot: float | None
    gap: float | None
    relative_gap: float | None
    gap_low: float
    gap_high: float
    cost_ot_high: float
    dual_value: float
    max_violation: float
    certified: bool
    worst_cycle: float
    worst_cycle_length: int
    points: int
    dim: int
    p: float
    rounds: int
    peak_memory: int
    brenier_asymmetry: float | None = None
    brenier_asymmetry_se: float | None = None
    min_eigenvalue: float | None = None
    straightness: float | None = None
    power: "Power | None" = None


def ot_gap(
    x: Points,
    t_of_x: Float[Tensor, "m *other"] | Float[np.ndarray, "m *other"],
    p: float = 2.0,
    *,
    transport_map: Map | None = None,
    path: Path | None = None,
    with_power: bool = False,
    generator: torch.Generator | None = None,
    tolerance: float = 1e-10,
    rounds: int = 100,
    seconds: float = math.inf,
    device: torch.device | str = "cpu",
) -> Gap:
    """Certified gap of the pairing x_i → T(x_i) to the optimal pairing of the two clouds.

    gap = 1/n Σ_i ‖x_i − T(x_i)‖^p − min over permutations, never negative: the network's own pairing is where the
    solver starts. In many dimensions a gap of 0 says little: `with_power` says how little (3 to 18 more solves), and
    `transport_map`, T as a callable on x, brings in the symmetry of its Jacobian, which does not suffer. `path`, the
    states z_0..z_L on these points, adds its straightness. `generator` draws the probes (None: seed 0). Clouds of
    d > 2 n are solved in n + 1 coordinates that keep the costs.
    """
    x_array, t_array = as_matrix(x, "x"), as_matrix(t_of_x, "t_of_x")
    if x_array.shape != t_array.shape:
        raise ValueError(f"x and t_of_x must have one shape (n, d); got {x_array.shape} and {t_array.shape}.")
    p, dim = check_exponent(p), x_array.shape[1]
    short = span(x_array)
    if short is not None:
        x_array, t_array = short[1], short[0].coordinates(t_array)
    solved = exact_transport(
        x_array, t_array, p=p, paired=True, tolerance=tolerance, rounds=rounds, seconds=seconds, device=device
    )
    found = pairing_gap(x_array, t_array, solved, p)._replace(dim=dim)
    generator = torch.Generator().manual_seed(0) if generator is None else generator
    if transport_map is not None:
        points = x.detach() if isinstance(x, Tensor) else torch.from_numpy(np.asarray(x, np.float64))
        test = brenier_test(transport_map, points, generator=generator, p=p)
        found = found._replace(
            brenier_asymmetry=test.asymmetry,
            brenier_asymmetry_se=test.asymmetry_se,
            min_eigenvalue=test.min_eigenvalue,
        )
    if path is not None:
        found = found._replace(straightness=float(straightness_of(path)))
    if with_power:
        from regimes.transport.power import power  # it calls this function

        limits = {"transport_map": transport_map, "seconds": seconds, "own": found}
        found = found._replace(power=power(x, t_of_x, generator=generator, p=p, **limits))
    return found


def pairing_gap(x: Matrix, t: Matrix, solved: Transport, p: float) -> Gap:
    """The gap of the pairing x_i → t_i, given the outcome of the exact solve between these two clouds."""
    cost = math.fsum(paired_cost(x, t, p)) / len(x)
    gap_low, gap_high = cost - solved.primal, cost - solved.dual_value
    cycles = rearrangement_cycles(x, t, solved.plan, p=p)
    worst = max(cycles, key=lambda cycle: cycle.gain, default=Cycle(0, 0.0, ()))
    return Gap(
        cost_network=cost,
        cost_ot=solved.cost,
        gap=gap_low if solved.certified else None,
        relative_gap=(gap_low / cost if cost > 0 else 0.0) if solved.certified else None,
        gap_low=gap_low,
        gap_high=gap_high,
        cost_ot_high=solved.primal,
        dual_value=solved.dual_value,
        max_violation=solved.max_violation,
        certified=solved.certified,
        worst_cycle=worst.gain,
        worst_cycle_length=worst.length,
        points=x.shape[0],
        dim=x.shape[1],
        p=p,
        rounds=solved.rounds,
        peak_memory=solved.peak_memory,
    )
