"""Exact OT of large clouds: time, rounds, memory and certificate, beside POT's dense simplex and scipy's assignment.

Clouds: `independent`, two Gaussian samples of unlike spread, one shifted; `network`, a sample and its image under a
map with a rotation in it, x + ½ tanh(xW) + ⅓ xS, the pairing given to the solver. Every solve runs in a process of its
own, so that its peak memory is its own; times include everything after the import. POT solves the dense problem with
room to finish, and its cost matrix counts as part of its time. scipy is timed where it is quick (d > 2).
`--large` adds the sizes whose dense problem does not fit (20 GB of costs at n = 50,000).
The last line is the ratio of times at n = 5,000, d = 2, independent clouds: POT over ours.
"""

import argparse
import resource
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import NamedTuple

import numpy as np

UNLIMITED = 2**40
DENSE_LIMIT = 5_000
GIGABYTE = 2**30


class Case(NamedTuple):
    points: int
    dim: int
    clouds: str


class Measured(NamedTuple):
    seconds: float
    cost: float
    memory: float
    note: str


SMALL = [
    Case(n, d, kind)
    for n, d in ((2_000, 2), (5_000, 2), (5_000, 8), (5_000, 64))
    for kind in ("independent", "network")
]
LARGE = [Case(20_000, 2, "independent")] + [
    Case(50_000, d, kind) for d in (2, 8, 64) for kind in ("network", "independent")
]


def clouds(case: Case) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(case.dim)
    x = rng.normal(size=(case.points, case.dim))
    if case.clouds == "independent":
        y = 0.8 * rng.normal(size=x.shape)
        y[:, 0] += 1
        return x, y
    w, s = (rng.normal(size=(case.dim, case.dim)) / np.sqrt(case.dim) for _ in range(2))
    return x, x + 0.5 * np.tanh(x @ w) + x @ (s - s.T) / 3


def peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / GIGABYTE


def ours(case: Case) -> Measured:
    from regimes.transport.discrete import exact_transport

    x, y = clouds(case)
    exact_transport(x[:50], y[:50])  # imports
    start = time.perf_counter()
    solved = exact_transport(x, y, paired=case.clouds == "network")
    seconds = time.perf_counter() - start
    width = (solved.primal - solved.dual_value) / solved.primal
    word = "certified" if solved.certified else "NOT CERTIFIED"
    return Measured(seconds, solved.primal, peak(), f"{word} to {width:.0e}, {solved.rounds} rounds")


def dense_simplex(case: Case) -> Measured:
    import ot

    x, y = clouds(case)
    start = time.perf_counter()
    _, log = ot.emd([], [], ot.dist(x, y), numItermax=UNLIMITED, log=True)
    return Measured(time.perf_counter() - start, float(log["cost"]), peak(), "")


def assignment(case: Case) -> Measured:
    import ot
    from scipy.optimize import linear_sum_assignment

    x, y = clouds(case)
    start = time.perf_counter()
    cost = ot.dist(x, y)
    value = float(cost[linear_sum_assignment(cost)].mean())
    return Measured(time.perf_counter() - start, value, peak(), "")


def apart(run: Callable[[Case], Measured], case: Case) -> Measured:
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(run, case).result()


def show(case: Case, name: str, found: Measured) -> None:
    head = f"n = {case.points:>6,}  d = {case.dim:>2}  {case.clouds:<11}  {name:<5}"
    print(f"{head} {found.seconds:8.2f} s  {found.memory:5.2f} GB  cost {found.cost:.10g}  {found.note}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--large", action="store_true", help="also n = 20,000 and 50,000")
    parser.add_argument("--only-large", action="store_true", help="the large sizes and the case of the ratio")
    options = parser.parse_args()
    headline, ratio = Case(5_000, 2, "independent"), float("nan")
    cases = [headline] if options.only_large else SMALL
    for case in [*cases, *(LARGE if options.large or options.only_large else [])]:
        found = apart(ours, case)
        show(case, "ours", found)
        if case.points > DENSE_LIMIT:
            continue
        dense = apart(dense_simplex, case)
        difference = abs(found.cost - dense.cost) / dense.cost
        show(case, "POT", dense._replace(note=f"differs by {difference:.0e}"))
        if case.dim > 2:
            show(case, "scipy", apart(assignment, case))
        if case == headline:
            ratio = dense.seconds / found.seconds
    print(f"ratio: {ratio:.2f}")


if __name__ == "__main__":
    main()
