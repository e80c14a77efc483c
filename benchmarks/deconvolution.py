"""Sparse deconvolution: seconds to a certified gap of 10⁻⁸, of four ways, and what a fine grid reaches.

Five signed spikes on the circle and on the torus, seen through a Dirichlet kernel of order 7, as in the statement
`sparse_deconvolution`. Ways: descent of particles in the plain metric and in that of the cone, births and deaths from
seven particles, sliding Frank-Wolfe, and the Lasso on fixed grids by celer, asked for 10⁻⁴ in F. On
fine grids, whose columns are nearly alike, it stops short of that; its iterations are limited then.
All are measured by one number: the proved duality gap of F over all measures on the torus. A grid is not that problem:
its optimum has a gap of its own, which is printed; it falls with the square of the spacing.
Every way solves every problem once a repeat, one problem at a time, in an order that rotates; seconds include the
certificates that a way looks at on its way, and for grids the matrix. A single core; the clock is the processor's
unless --clock wall is given. celer is needed for the grids (pip install 'regimes[deconvolution]'); without it they are
left out.
"""

import argparse
import warnings
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import torch

from benchmarks.timing import Seconds, positive, ratio, spread, turn
from regimes.meanfield.measures import Measure
from regimes.meanfield.spikes.descent import forward_backward
from regimes.meanfield.spikes.dirichlet import harmonics
from regimes.meanfield.spikes.dual import certify_spikes
from regimes.meanfield.spikes.problems import evenly_spaced, random_spikes
from regimes.meanfield.spikes.risk import SpikeRisk, observed
from regimes.meanfield.spikes.sliding import sliding_frank_wolfe

ORDER, M0, SHARE = 7, 5, 0.01
SLIDING = "sliding Frank-Wolfe"
PARTICLES = {1: 20, 2: 144}
GRIDS = {1: (64, 256, 1024), 2: (32, 64, 128)}
GAP, GRID_ACCURACY = 1e-8, 1e-4

Way = Callable[[SpikeRisk], Measure]


def problem(dim: int, seed: int) -> SpikeRisk:
    generator = torch.Generator().manual_seed(seed)
    truth = random_spikes(M0, dim, separation=0.1, signed=True, generators=[generator])
    return SpikeRisk(observed(truth, ORDER), penalty=SHARE * (2 * ORDER + 1) ** dim)


def descent(m: int, iterations: int, **options: Any) -> Way:
    """Forward-backward from m particles without mass."""

    def solve(risk: SpikeRisk) -> Measure:
        start = Measure(evenly_spaced(m, risk.dim)[None], torch.zeros(1, m, dtype=torch.float64))
        *_, end = forward_backward(risk, start, iterations=iterations, gap=GAP, **options)
        return end.measure

    return solve


def sliding(risk: SpikeRisk) -> Measure:
    *_, (spikes, _) = sliding_frank_wolfe(risk, gap=GAP)
    return spikes.measure()


def grid_lasso(points: int) -> Way:
    """The best masses on a grid of `points` along each axis, by celer."""

    def solve(risk: SpikeRisk) -> Measure:
        from celer import Lasso

        axis = torch.arange(points, dtype=torch.float64) / points
        factor, target = harmonics(axis, risk.order)[0], risk.target[0].flatten()
        matrix = factor if risk.dim == 1 else torch.kron(factor, factor)
        tolerance = GRID_ACCURACY * risk.penalty / float(target.square().sum())
        alpha = risk.penalty / len(target)
        lasso = Lasso(alpha=alpha, fit_intercept=False, tol=tolerance, max_iter=50, max_epochs=10_000)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that it stops short; the certified gap says what that means
            lasso.fit(matrix.mT.numpy(), target.numpy())
        (kept,) = lasso.coef_.nonzero()
        places = torch.as_tensor(kept)
        columns = [places] if risk.dim == 1 else [places // points, places % points]
        position = torch.stack([axis[column] for column in columns], -1)
        return Measure(position[None], torch.as_tensor(lasso.coef_[kept], dtype=torch.float64)[None])

    return solve


def ways(dim: int, iterations: int) -> dict[str, Way]:
    m = PARTICLES[dim]
    found: dict[str, Way] = {
        f"particles, m = {m}": descent(m, iterations),
        f"particles on the cone, m = {m}": descent(m, iterations, cone=True),
        f"births and deaths from m = {M0 + 2}": descent(M0 + 2, iterations, cone=True, births=True),
        SLIDING: sliding,
    }
    if find_spec("celer") is None:
        return found
    grids = {f"grid of {points}{'²' if dim == 2 else ''}, celer": grid_lasso(points) for points in GRIDS[dim]}
    return found | grids


def measured(dim: int, trials: int, repeats: int, iterations: int) -> dict[str, tuple[list[Seconds], list[float]]]:
    """Of each way its seconds and its certified gaps, one for each problem and repeat."""
    problems = [problem(dim, 100 + seed) for seed in range(trials)]
    known = ways(dim, iterations)
    order, found = list(known), {name: ([], []) for name in known}
    for name in order:  # imports, first calls
        known[name](problem(dim, 99))
    for _ in range(repeats):
        for risk in problems:
            for name in order:
                kept: list[Measure] = []
                found[name][0].append(
                    turn(lambda name=name, risk=risk, kept=kept: kept.append(known[name](risk)), "cpu")
                )
                found[name][1].append(float(certify_spikes(risk, kept[0]).gap))
            order = [*order[1:], *order[:1]]
    return found


def show(found: dict[str, tuple[list[Seconds], list[float]]], clock: str) -> None:
    """A line for each way: seconds, how often it has reached the gap, and its largest gap."""
    print(f"{'':34}{'seconds, median (middle half)':42}{'reached':>10}  largest gap")
    for name, (times, gaps) in found.items():
        seconds = spread([getattr(each, clock) for each in times])
        reached = sum(gap <= GAP for gap in gaps)
        print(f"{name:34}{seconds!s:42}{reached:>4} of {len(gaps):<4} {max(gaps):.1e}")


def main(words: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dim", type=int, nargs="+", choices=(1, 2), default=[1, 2])
    parser.add_argument("--trials", type=positive, default=5, help="problems of each dimension")
    parser.add_argument("--repeats", type=positive, default=3)
    parser.add_argument("--iterations", type=positive, default=50_000, help="of a descent at the most")
    parser.add_argument("--clock", choices=("process", "wall"), default="process")
    arguments = parser.parse_args(words)
    torch.set_num_threads(1)
    for dim in arguments.dim:
        print(f"d = {dim}: {arguments.trials} problems, {arguments.repeats} times each", flush=True)
        found = measured(dim, arguments.trials, arguments.repeats, arguments.iterations)
        show(found, arguments.clock)
        (born,) = (each for name, each in found.items() if name.startswith("births"))
        arrived = all(gap <= GAP for _, gaps in (born, found[SLIDING]) for gap in gaps)
        over = ratio(born[0], found[SLIDING][0], arguments.clock) if arrived else "not measured, a gap was not reached"
        print(f"ratio: {over}, births and deaths over sliding Frank-Wolfe\n")


if __name__ == "__main__":
    main()
