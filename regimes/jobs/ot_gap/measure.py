"""Everything that is measured of one stage of one checkpoint; the exact and the infinitesimal evidence side by side."""

import math
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from scipy.spatial.distance import cdist
from torch import Tensor

from regimes.conventions import generator
from regimes.jobs.ot_gap.config import Config
from regimes.jobs.ot_gap.evidence import written, written_test
from regimes.jobs.ot_gap.plane import plane
from regimes.jobs.ot_gap.stages import Case, Stage, blocks, entry
from regimes.streams import GapJob
from regimes.transport.brenier import BrenierTest, NoJacobianTest, brenier_test
from regimes.transport.cost import raised
from regimes.transport.discrete import Transport, exact_transport
from regimes.transport.energy import straight_share
from regimes.transport.pairing import Gap, pairing_gap
from regimes.transport.power import PROBED, power
from regimes.transport.regularity import regularity
from regimes.transport.showing import lines
from regimes.transport.span import span

PARTS = 4  # of the measurement of a stage, for progress
FEWEST = 64  # points that are probed however many features there are
BLOCK_PROBES = 4
PAIR_FEATURES = 2_000_000_000  # pairs times features that the stretch is looked for in
MOST_PAIRED = 1000
ROWS = 2_000_000  # costs held at a time


class Measured(NamedTuple):
    """Plain numbers of one stage (None where one does not exist), and the arrays that its figure shows."""

    numbers: dict[str, Any]
    arrays: dict[str, np.ndarray]


def measure_stage(case: Case, stage: Stage, config: Config) -> Iterator[Measured | None]:
    """The exact gap on the points, Brenier's test of the map and of its blocks, energies, stretch, and the power.

    PARTS items: None after each part but the last, then everything.
    """
    start = time.monotonic()
    x, t, p = stage.x, stage.t, config.p
    told, seconds = lines(), math.inf if config.seconds is None else config.seconds
    solving: dict[str, Any] = {"p": p, "seconds": seconds, "device": config.device}
    short = span(x)
    near = (short.x_short, short.images(t)) if short is not None and short.keeps(t) else (x, t)
    solved = exact_transport(*near, paired=True, progress=told, **solving)
    gap = pairing_gap(*near, solved, p)._replace(dim=x.shape[1])
    yield None
    local, some, block_tests = _derivatives(case, stage, config)
    yield None
    energies, stretch = _energies(stage, gap), _stretch(x, t)
    own, others = _slack(*near, solved, p)
    arrays = {"steps": stage.steps, "own_slack": own, "other_slack": others, **plane(x, t, solved.plan)}
    yield None
    numbers = {
        **written(gap),
        **local,
        **energies,
        **stretch,
        **_power(case, stage, config.seed, some, own=gap, solves=told, **solving),
        "blocks": len(blocks(case.network, stage.number)),
        "block_step_length": stage.steps.mean(0).tolist(),
        "block_asymmetry": [test and test.asymmetry for test in block_tests],
        "block_asymmetry_se": [test and test.asymmetry_se for test in block_tests],
        "stage": stage.number,
        "stages": len(case.network.segments),
        "shape": list(stage.shape),
        "seconds": time.monotonic() - start,
    }
    yield Measured(numbers, arrays)


def _derivatives(
    case: Case, stage: Stage, config: Config
) -> tuple[dict[str, Any], Tensor | None, list[BrenierTest | None]]:
    """Brenier's test of the stage's map, the same along the image of the encoder, and of each block.

    In float32, the precision the network was trained in; the points are the first ones, as many as PROBED allows.
    """
    network, index, p = case.network.float(), stage.number, config.p
    count = max(FEWEST, PROBED // stage.x.shape[1])
    inputs = case.inputs[:count].float().to(config.device)
    enter, transport = entry(network, index), network.segment(index).transport
    with torch.no_grad():
        z = enter(inputs)

    def stream(number: int) -> torch.Generator:
        return generator(config.seed, GapJob.PROBES, index, number)

    whole, reason = _tested(transport, z, generator=stream(0), p=p)
    on_image = None
    if whole is not None and inputs[0].numel() < z[0].numel():  # the image cannot fill the space of the states
        on_image = _tested(transport, inputs, generator=stream(1), p=p, encoder=enter)[0]
    tests, state = [], z
    for number, block in enumerate(blocks(network, index)):
        options: dict[str, Any] = {"probes": BLOCK_PROBES, "eigen_points": 0}
        tests.append(_tested(block, state, generator=stream(2 + number), p=p, **options)[0])
        with torch.no_grad():
            state = block(state)
    numbers = {"inputs": inputs[0].numel(), **written_test(whole, "brenier"), **written_test(on_image, "image")}
    return {**numbers, "brenier_missing": reason}, None if whole is None else z, tests


def _tested(transport_map: Any, x: Tensor, **options: Any) -> tuple[BrenierTest | None, str | None]:
    """The test, or why there is none: a map that is constant, or one that moves nothing at p ≠ 2."""
    try:
        return brenier_test(transport_map, x, **options), None
    except NoJacobianTest as error:
        return None, error.reason


def _energies(stage: Stage, gap: Gap) -> dict[str, Any]:
    """Action in unit time, straightness, and both costs over the optimal one: action ≥ cost_network ≥ W_p^p."""
    distance, length = (torch.tensor(stage.energies[name], dtype=torch.float64) for name in ("distance", "length"))
    optimum = gap.cost_ot

    def over(cost: float) -> float | None:
        return cost / optimum if optimum else None

    return {
        "straightness": float(straight_share(distance, length)),
        "action": stage.energies["action"],
        "transport": stage.energies["transport"],
        "length": float(length),
        "mean_displacement": float(distance),
        "action_over_cost_ot": over(stage.energies["action"]),
        "cost_network_over_cost_ot": over(gap.cost_network),
    }


def _stretch(x: np.ndarray, t: np.ndarray) -> dict[str, Any]:
    count = int(np.clip(math.sqrt(PAIR_FEATURES / x.shape[1]), 3, MOST_PAIRED))
    found = regularity(x, t, points=count)
    return {
        "lipschitz": found.lipschitz,
        "inverse_lipschitz": found.inverse_lipschitz,
        "holder": _known(found.holder.exponent),
        "stretch_points": found.points,
    }


def _power(case: Case, stage: Stage, seed: int, at: Tensor | None, *, own: Gap, **solving: Any) -> dict[str, Any]:
    """What the tests could have seen; nothing to compare with where no point moves."""
    if own.cost_network == 0:
        return {"power": None, "power_line": None}
    transport = case.network.segment(stage.number).transport
    stream = generator(seed, GapJob.PROBES, stage.number, 1000)
    tested = {"transport_map": None if at is None else transport, "at": at}
    found = power(stage.x, stage.t, generator=stream, own=own, **tested, **solving)
    values = {**found._asdict(), "departed": [one._asdict() for one in found.departed]}
    return {"power": values, "power_line": found.line()}


def _slack(x: np.ndarray, t: np.ndarray, solved: Transport, p: float) -> tuple[np.ndarray, np.ndarray]:
    """Reduced costs ‖x_i − t_j‖^p − u_i − v_j of each point's own pair, and the least of its other pairs.

    The network's pairing is optimal if and only if the first are all 0 for optimal potentials.
    """
    own, others = np.empty(len(x)), np.empty(len(x))
    step = max(1, ROWS // len(x))
    for start in range(0, len(x), step):
        rows = np.arange(start, min(start + step, len(x)))
        reduced = raised(cdist(x[rows], t, "sqeuclidean"), p) - solved.u[rows, None] - solved.v
        own[rows] = reduced[np.arange(len(rows)), rows]
        reduced[np.arange(len(rows)), rows] = np.inf
        others[rows] = reduced.min(1)
    return np.maximum(own, 0), np.maximum(others, 0)


def _known(value: float) -> float | None:
    return value if math.isfinite(value) else None
