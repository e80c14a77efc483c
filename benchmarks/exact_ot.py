"""Exact OT of large clouds: time, rounds, memory and certificate, beside POT, scipy and OR-tools alone.

Clouds: `independent`, two Gaussian samples of unlike spread, one shifted; `network`, a sample and its image under a
map with a rotation in it, x + ½ tanh(xW) + ⅓ xS, the pairing given to the solver. Every solve runs in a process of its
own, so that its peak memory is its own; times include everything after the import: on the clock, and of the
processor, which tells more where others use the machine too.
Rivals: POT's simplex on the dense problem, with room to finish; POT's `emd2_lazy`, which computes costs as it goes in
O(n) memory; scipy's assignment solver where it is quick (d > 2); OR-tools on all pairs, with costs rounded to integers:
what it finds is an optimum up to that rounding. Cost matrices count as part of their time.
`--large` adds the sizes whose dense problem does not fit (20 GB of costs at n = 50,000), `--case` picks single ones;
`--out results/exact_ot` adds what is measured to the table kept there, `--tidy` only writes that table anew.
The last line is the ratio of times at n = 5,000, d = 2, independent clouds: POT over ours.
"""

import argparse
import json
import math
import os
import resource
import subprocess
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

import numpy as np

CLOUDS = ("independent", "network")
UNLIMITED = 2**40
DENSE_LIMIT = 5_000
GIGABYTE = 2**30


class Case(NamedTuple):
    points: int
    dim: int
    clouds: str


class Measured(NamedTuple):
    seconds: float
    processor_seconds: float | None
    memory: float
    cost: float  # of the best plan
    width: float | None = None  # of the proven bracket, relative to that cost; None where nothing is proven
    rounds: int | None = None
    certified: bool | None = None


SMALL = [Case(n, d, kind) for n, d in ((2_000, 2), (5_000, 2), (5_000, 8), (5_000, 64)) for kind in CLOUDS]
LARGE = [Case(n, 2, "independent") for n in (20_000, 200_000)] + [
    Case(50_000, d, kind) for kind in ("network", "independent") for d in (2, 8, 64)
]


def read_case(text: str) -> Case:
    """A case from "5000,2,network"."""
    points, dim, kind = text.split(",") if text.count(",") == 2 else ("", "", "")
    if kind not in CLOUDS or not (points.isdecimal() and dim.isdecimal() and int(points) > 0 and int(dim) > 0):
        raise argparse.ArgumentTypeError(
            f"needs points,features,clouds with clouds {' or '.join(CLOUDS)}; got {text!r}"
        )
    return Case(int(points), int(dim), kind)


def clouds(case: Case) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(case.dim)
    x = rng.normal(size=(case.points, case.dim))
    if case.clouds == "independent":
        y = 0.8 * rng.normal(size=x.shape)
        y[:, 0] += 1
        return x, y
    w, s = (rng.normal(size=(case.dim, case.dim)) / np.sqrt(case.dim) for _ in range(2))
    return x, x + 0.5 * np.tanh(x @ w) + x @ (s - s.T) / 3


class Clock:
    """Seconds since it was made, on the wall and of all threads of this process, and the peak memory in GB."""

    def __init__(self):
        self.start, self.busy = time.perf_counter(), time.process_time()

    def read(self) -> tuple[float, float, float]:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / GIGABYTE
        return time.perf_counter() - self.start, time.process_time() - self.busy, peak


def ours(case: Case, limit: float) -> Measured:
    from regimes.transport.discrete import exact_transport

    x, y = clouds(case)
    exact_transport(x[:50], y[:50])  # imports
    clock = Clock()
    solved = exact_transport(x, y, paired=case.clouds == "network", seconds=limit)
    width = (solved.primal - solved.dual_value) / solved.primal
    return Measured(*clock.read(), solved.primal, width, solved.rounds, solved.certified)


def dense_simplex(case: Case, limit: float) -> Measured:
    from regimes.transport.pot import pot

    x, y = clouds(case)
    ot, clock = pot(), Clock()
    _, log = ot.emd([], [], ot.dist(x, y), numItermax=UNLIMITED, log=True)
    return Measured(*clock.read(), float(log["cost"]))


def lazy_simplex(case: Case, limit: float) -> Measured:
    from regimes.transport.pot import pot

    x, y = clouds(case)
    ot, clock = pot(), Clock()
    value = ot.lp.emd2_lazy(x, y, numItermax=UNLIMITED, return_matrix=False)
    return Measured(*clock.read(), float(value))


def or_tools(case: Case, limit: float) -> Measured:
    from scipy.spatial.distance import cdist

    from regimes.transport.assignment import available, integer_assignment

    x, y = clouds(case)
    assert available(), "needs OR-tools: pip install .[transport]"
    integer_assignment(*np.divmod(np.arange(4), 2), np.ones(4), 2, math.inf)  # imports
    clock = Clock()
    cost = cdist(x, y, "sqeuclidean")
    pairs = np.divmod(np.arange(cost.size), len(x))
    found = integer_assignment(*pairs, cost.ravel(), len(x), math.inf)
    assert found is not None
    value = float(cost[np.arange(len(x)), found[0]].mean())
    return Measured(*clock.read(), value)


def assignment(case: Case, limit: float) -> Measured:
    from scipy.optimize import linear_sum_assignment

    from regimes.transport.pot import pot

    x, y = clouds(case)
    ot, clock = pot(), Clock()
    cost = ot.dist(x, y)
    value = float(cost[linear_sum_assignment(cost)].mean())
    return Measured(*clock.read(), value)


def apart(run: Callable[[Case, float], Measured], case: Case, limit: float = math.inf) -> Measured:
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(run, case, limit).result()


def tell(found: Measured) -> str:
    if found.certified is None:
        return ""
    word = "certified" if found.certified else "NOT CERTIFIED, bracket of"
    return f"{word} to {found.width:.0e}, {found.rounds} rounds"


def show(case: Case, name: str, found: Measured) -> None:
    head = f"n = {case.points:>6,}  d = {case.dim:>2}  {case.clouds:<11}  {name:<8}"
    times = f"{found.seconds:8.2f} s ({found.processor_seconds:.2f} s of processor)"
    print(f"{head} {times}  {found.memory:5.2f} GB  cost {found.cost:.10g}  {tell(found)}", flush=True)


def last_commit() -> str:
    """The last commit that changed what is measured here."""
    command = ["git", "log", "-1", "--format=%h", "--", "regimes/transport", "benchmarks/exact_ot.py"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()


def keep(folder: Path, case: Case, solver: str, found: Measured, commit: str) -> None:
    """Put a measurement into `result.json`, in place of an earlier one of this case and solver."""
    file = folder / "result.json"
    rows = json.loads(file.read_text())["rows"] if file.exists() else []
    row = {**case._asdict(), "solver": solver, **found._asdict()}
    row |= {"commit": commit, "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")}
    row |= {"hardware": f"CPU, {os.cpu_count()} cores", "threads": os.environ.get("OMP_NUM_THREADS", "all")}
    row["load"] = round(os.getloadavg()[1], 1)
    rows = [old for old in rows if any(old[key] != row[key] for key in ("points", "dim", "clouds", "solver"))]
    folder.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps({"rows": [*rows, row]}, indent=1) + "\n")
    tidy(folder)


def tidy(folder: Path) -> None:
    """Write `table.md` from `result.json`."""
    rows = json.loads((folder / "result.json").read_text())["rows"]
    rows.sort(key=lambda row: (row["points"], row["clouds"] != "network", row["dim"], row["solver"] != "ours"))
    names = "n,d,clouds,solver,seconds,of processor,peak GB,rounds,certified,relative gap,cost,load,date,commit"
    lines = [f"| {' | '.join(names.split(','))} |", "|---" * len(names.split(",")) + "|"]
    for row in rows:
        proof = (
            [row["rounds"], "yes" if row["certified"] else "no", f"{row['width']:.1e}"] if row["rounds"] else ["-"] * 3
        )
        cells = [f"{row['points']:,}", row["dim"], row["clouds"], row["solver"]]
        busy = "-" if row["processor_seconds"] is None else f"{row['processor_seconds']:.1f}"
        cells += [f"{row['seconds']:.1f}", busy, f"{row['memory']:.2f}", *proof]
        load = "-" if row["load"] is None else row["load"]
        cells += [f"{row['cost']:.10g}", load, row["date"], row["commit"]]
        lines.append(f"| {' | '.join(map(str, cells))} |")
    hardware = sorted({row["hardware"] for row in rows})
    about = "load: processes that wanted a core, five minutes' mean at the end. Where it exceeds the number of cores, "
    about += "seconds are those of a crowd; seconds of processor are less so. A dash: not read, or nothing to prove."
    (folder / "table.md").write_text("\n".join([*lines, "", f"{'; '.join(hardware)}; {about}", ""]))


def run(case: Case, limit: float, folder: Path | None, commit: str) -> str:
    """Measure a case with every solver that suits it; the quickest rival's time over ours, or why there is no ratio."""
    results = {"ours": apart(ours, case, limit)}
    show(case, "ours", results["ours"])
    if case.points <= DENSE_LIMIT:
        rivals = {"POT": dense_simplex, "POT lazy": lazy_simplex, "OR-tools": or_tools}
        for name, rival in {**rivals, **({"scipy": assignment} if case.dim > 2 else {})}.items():
            results[name] = apart(rival, case)
            show(case, name, results[name])
        for name in unlike(results):
            print(f"!! {name} differs from ours by {results[name].cost - results['ours'].cost:.1e}", flush=True)
    if folder:
        for name, found in results.items():
            keep(folder, case, name, found, commit)
    return compared(results)


def unlike(results: dict[str, Measured]) -> list[str]:
    """The rivals whose cost is not ours."""
    ours = results["ours"].cost
    return [name for name, found in results.items() if not abs(found.cost - ours) <= 1e-9 * abs(ours)]


def compared(results: dict[str, Measured]) -> str:
    """The time of the quickest rival over ours, one solve each; not where ours is unproved or costs differ."""
    ours, rivals = results["ours"], {name: found for name, found in results.items() if name != "ours"}
    if not rivals:
        return "not measured"
    if not ours.certified or unlike(results):
        return "not measured: ours is not certified, or costs differ"
    quickest = min(rivals, key=lambda name: rivals[name].seconds)
    wall = rivals[quickest].seconds / ours.seconds
    busy = [one.processor_seconds for one in (rivals[quickest], ours)]
    processor = (
        f"{busy[0] / busy[1]:.2f} in seconds of processor" if busy[0] and busy[1] else "seconds of processor not read"
    )
    return f"{wall:.2f} by the clock ({processor}), {quickest}, the quickest rival, over ours; one solve each"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--large", action="store_true", help="also n = 20,000, 50,000 and 200,000")
    parser.add_argument("--only-large", action="store_true", help="the large sizes and the case of the ratio")
    parser.add_argument(
        "--case", type=read_case, action="append", help="points,features,clouds: only this one; may be repeated"
    )
    parser.add_argument("--seconds", type=float, default=math.inf, help="limit of one solve, looked at between rounds")
    parser.add_argument("--out", type=Path, help="folder of result.json and table.md")
    parser.add_argument("--tidy", action="store_true", help="write the table anew, measure nothing")
    options = parser.parse_args()
    if options.tidy:
        return tidy(options.out)
    headline, ratio = Case(5_000, 2, "independent"), "not measured"
    cases = [headline] if options.only_large else SMALL
    cases = [*cases, *(LARGE if options.large or options.only_large else [])]
    if options.case:
        cases = options.case
    commit = last_commit()  # before the first solve: the tree may move on meanwhile
    for case in cases:
        found = run(case, options.seconds, options.out, commit)
        ratio = found if case == headline else ratio
    print(f"ratio: {ratio}")
    return None


if __name__ == "__main__":
    main()
