"""Is exact transport right? Random and adversarial problems, each held against an independent optimum.

An outcome is wrong if its cost differs from the truth by more than 1e-9 of it, if its plan has other marginals, or if
`certify`, which looks at all pairs again, does not confirm it. The truth is scipy's assignment solver for uniform
weights and equal sizes, else POT's dense simplex. Problems of up to 90 points are solved over all pairs; those of 400
to 700 take the road of large clouds. `--out results/exact_ot` keeps the counts. The last line is `wrong: ...`.
"""

import argparse
import json
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy.optimize import linear_sum_assignment

from benchmarks.timing import whole
from regimes.transport.cost import cost_matrix
from regimes.transport.discrete import exact_transport
from regimes.transport.duality import certify
from regimes.transport.pot import pot

EXPONENTS = (1.0, 1.5, 2.0, 3.0)
DIMENSIONS = (1, 2, 3, 16, 128)
Rng = np.random.Generator


class Problem(NamedTuple):
    x: np.ndarray
    y: np.ndarray
    a: np.ndarray | None = None
    b: np.ndarray | None = None


def gaussian(rng: Rng, n: int, d: int) -> Problem:
    return Problem(rng.normal(size=(n, d)), 0.7 * rng.normal(size=(n, d)) + 0.5)


def near(rng: Rng, n: int, d: int) -> Problem:
    x = rng.normal(size=(n, d))
    return Problem(x, (x + 10.0 ** rng.uniform(-9, -1) * rng.normal(size=(n, d)))[rng.permutation(n)])


def ties(rng: Rng, n: int, d: int) -> Problem:
    side = int(rng.integers(2, 12))
    return Problem(*(rng.integers(0, side, (n, d)).astype(float) for _ in range(2)))


def grid(rng: Rng, n: int, d: int) -> Problem:
    """Distinct points of a grid, and the same turned or shifted: many optimal plans."""
    side = int(np.ceil(n ** (1 / min(d, 3))))
    axes = np.stack(np.meshgrid(*[np.arange(side)] * min(d, 3)), -1).reshape(-1, min(d, 3))[:n].astype(float)
    x = np.pad(axes, ((0, 0), (0, d - axes.shape[1])))
    return Problem(x, x[:, ::-1] + rng.integers(0, 3))


def duplicates(rng: Rng, n: int, d: int) -> Problem:
    x, y = rng.normal(size=(2, n, d))
    few = max(1, n // int(rng.integers(1, 12)))
    return Problem(x[rng.integers(0, few, n)], y[rng.integers(0, max(1, few // 2), n)])


def collinear(rng: Rng, n: int, d: int) -> Problem:
    direction = rng.normal(size=(1, d))
    return Problem(rng.normal(size=(n, 1)) * direction, rng.normal(size=(n, 1)) * direction + 1)


def crossed(rng: Rng, n: int, d: int) -> Problem:
    """One cloud on a line, the other on another: all distances of a point are alike."""
    x, y = np.zeros((n, d)), np.zeros((n, d))
    x[:, 0], y[:, -1] = rng.normal(size=n), rng.normal(size=n)
    return Problem(x, y)


def sphere(rng: Rng, n: int, d: int) -> Problem:
    """Points of a sphere and (nearly) its centre: all costs equal but for rounding."""
    x = rng.normal(size=(n, d))
    return Problem(x / np.linalg.norm(x, axis=1, keepdims=True), 1e-9 * rng.normal(size=(n, d)))


def scaled(rng: Rng, n: int, d: int) -> Problem:
    scale = 10.0 ** rng.choice([-280, -100, -20, -6, 6, 20, 100, 280])
    x, y, *_ = gaussian(rng, n, d)
    return Problem(scale * x, scale * y)


def offset(rng: Rng, n: int, d: int) -> Problem:
    x, y, *_ = gaussian(rng, n, d)
    by = 10.0 ** rng.integers(0, 9)
    return Problem(x + by, y + by)


def apart(rng: Rng, n: int, d: int) -> Problem:
    x, y, *_ = gaussian(rng, n, d)
    return Problem(x, y + 10.0 ** rng.integers(1, 6))


def outliers(rng: Rng, n: int, d: int) -> Problem:
    x, y, *_ = gaussian(rng, n, d)
    x[:3] *= 10.0 ** rng.integers(1, 6)
    return Problem(x, y)


def two_scales(rng: Rng, n: int, d: int) -> Problem:
    x, y, *_ = gaussian(rng, n, d)
    x[n // 2 :], y[n // 2 :] = 1e5 + 1e-3 * x[n // 2 :], 1e5 + 1e-3 * y[n // 2 :]
    return Problem(x, y)


def heavy_tails(rng: Rng, n: int, d: int) -> Problem:
    return Problem(*rng.standard_cauchy((2, n, d)))


def clusters(rng: Rng, n: int, d: int) -> Problem:
    """Clusters that hold other shares of the two clouds: mass must travel far."""
    centres = 20 * rng.normal(size=(4, d))
    return Problem(
        *(centres[rng.choice(4, n, p=rng.dirichlet(np.ones(4)))] + rng.normal(size=(n, d)) for _ in range(2))
    )


def unequal(rng: Rng, n: int, d: int) -> Problem:
    x, y, *_ = gaussian(rng, n, d)
    return Problem(x, y[: int(rng.integers(1, n + 1))])


def weighted(rng: Rng, n: int, d: int) -> Problem:
    x, y, *_ = gaussian(rng, n, d)
    a, b = rng.random(n) + 0.01, rng.random(n) + 0.01
    a[: n // 8] = 0
    return Problem(x, y, a, b)


def single(rng: Rng, n: int, d: int) -> Problem:
    return Problem(rng.normal(size=(1, d)), rng.normal(size=(int(rng.integers(1, 3)), d)))


KINDS: tuple[Callable[[Rng, int, int], Problem], ...] = (
    gaussian, near, ties, grid, duplicates, collinear, crossed, sphere, scaled, offset, apart, outliers, two_scales,
    heavy_tails, clusters, unequal, weighted, single,
)  # fmt: skip


def truth(problem: Problem, p: float) -> float:
    """The optimum by other means."""
    x, y, *weights = problem
    cost = cost_matrix(x, y, p)
    if problem.a is None and len(x) == len(y):
        return float(cost[linear_sum_assignment(cost)].mean())
    a, b = (np.full(len(z), 1 / len(z)) if w is None else w / w.sum() for z, w in zip((x, y), weights, strict=True))
    return float((pot().emd(a, b, cost, numItermax=10**9) * cost).sum())


def fault(problem: Problem, p: float) -> str:
    """What is wrong with the outcome, '' if nothing."""
    x, y, a, b = problem
    solved = exact_transport(x, y, p=p, x_weights=a, y_weights=b)
    if not solved.certified or solved.cost is None:
        return f"not certified ({(solved.primal - solved.dual_value) / solved.primal:.0e})"
    # The checks are made in a unit in which costs of points of any size fit.
    size = max(np.abs(x).max(), np.abs(y).max())
    unit = 1.0 if 1e-90 < size < 1e90 else 2.0 ** round(np.log2(size))
    factor, near = (solved.unit / unit) ** p, problem._replace(x=x / unit, y=y / unit)
    exact = truth(near, p)
    if abs(factor * solved.cost - exact) > 1e-9 * exact:
        return f"cost {factor * solved.cost!r}, not {exact!r}"
    for weights, count, axis in ((a, len(x), 1), (b, len(y), 0)):
        share = np.full(count, 1 / count) if weights is None else weights / weights.sum()
        if np.abs(np.asarray(solved.plan.sum(axis)).ravel() - share).max() > 1e-12:
            return "marginals"
    proof = certify(near.x, near.y, factor * solved.u, factor * solved.v, solved.plan, p=p, tolerance=2e-9)
    return "" if proof.optimal else f"the certificate fails ({proof})"


def draw(seed: int, large: bool) -> tuple[str, Problem, int, int, float]:
    """The problem of a number: kinds, dimensions and exponents take turns, sizes are drawn."""
    rng = np.random.default_rng(seed)
    make = KINDS[seed % len(KINDS)]
    d, p = DIMENSIONS[seed // len(KINDS) % len(DIMENSIONS)], EXPONENTS[int(rng.integers(len(EXPONENTS)))]
    n = int(rng.integers(400, 700) if large else rng.integers(2, 90))
    return make.__name__, make(rng, n, d), n, d, p


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--small", type=whole, default=900, help="problems of up to 90 points")
    parser.add_argument("--large", type=whole, default=180, help="problems of 400 to 700 points")
    parser.add_argument("--first", type=whole, default=0, help="number of the first problem")
    parser.add_argument("--out", type=Path, help="folder of trials.json")
    options = parser.parse_args()
    if not options.small + options.large:
        parser.error("needs problems to try; got --small 0 --large 0")
    wrong = tried = 0
    for part, count in (("small", options.small), ("large", options.large)):
        result: dict[str, Any] = {"tried": 0, "wrong": []}
        for result in trials(options.first, count, part == "large"):
            if options.out and (result["tried"] % 20 == 0 or result["tried"] == count):
                keep(options.out, f"{part}, from {options.first}", result)
        wrong, tried = wrong + len(result["wrong"]), tried + result["tried"]
    print(f"wrong: {wrong} of {tried}")
    if wrong:
        raise SystemExit(1)


def keep(folder: Path, part: str, result: dict[str, Any]) -> None:
    """Put the counts of one part, which may still grow, into `trials.json`."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "trials.json"
    kept = json.loads(file.read_text()) if file.exists() else {}
    file.write_text(json.dumps(kept | {part: result}, indent=1) + "\n")


def trials(first: int, count: int, large: bool) -> Iterator[dict[str, Any]]:
    """The problems of some numbers, one after the other: how many were tried so far, and what was wrong."""
    wrong: list[dict[str, Any]] = []
    kinds: Counter[str] = Counter()
    began = time.process_time()
    for seed in range(first, first + count):
        name, problem, n, d, p = draw(seed, large)
        kinds[name] += 1
        if found := fault(problem, p):
            wrong.append({"kind": name, "seed": seed, "n": n, "d": d, "p": p, "fault": found})
            print(wrong[-1], flush=True)
        seconds = round(time.process_time() - began)
        yield {"tried": sum(kinds.values()), "wrong": wrong, "kinds": dict(kinds), "first": first, "seconds": seconds}


if __name__ == "__main__":
    main()
