"""Gradients through many steps: reversible back-propagation beside checkpoints and adjoints. Error, time, memory.

One layer z' = tanh(Kz + (1 + t)b) in many steps, float64. The rivals: everything kept; √L checkpoints by torch, with
and without reentry; a fixed number of kept states by the binomial schedule, which is the memory order of the reversible
way; a checkpoint before each step; torchdiffeq's adjoint (extra `adjoints`). Checkpoints are timed on the pair of
copies that the reversible method steps, where values and gradients are the same, and on the plain steps, which are
another discretisation with half the velocities. Two rows have the pull-back of the field by hand in place of a graph:
the reversible way, and √L checkpoints with the same arithmetic, the strongest rival here.

What to expect: a velocity costs 1 and its pull-back 2. Back-propagation through n velocities with everything kept
costs 3n, with √L checkpoints 4n, rebuilt 4n too. The pair has two velocities where plain steps have one. So the
reversible way costs as much as √L checkpoints of the pair, twice as much as √L checkpoints of plain steps, at a memory
that does not grow; what keeps as few states by checkpoints repeats steps r ~ L^(1/states) times.

Times: turns of each way in one process, in an order that rotates, after a warm-up; processor time decides. Peaks: each
way in a process of its own, above what it held after a warm-up of two steps, each state in pages of its own. Errors:
against everything kept.

Run: python -m benchmarks.adjoints [--repeats 7] [--short]; OMP_NUM_THREADS sets the threads. A quarter of an hour.
"""

import argparse
import gc
import importlib.util
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import torch

from benchmarks.adjoint_ways import KNOWN, WAYS, Problem
from benchmarks.timing import interleave, positive, ratio, spread
from regimes.control.tableau import EULER, KUTTA4, TABLEAUS, Tableau

OURS, SQUARE_ROOT, FEW = "reversible", "pair, √L checkpoints of torch", "pair, 4 states kept"
FEW_PLAIN = "plain steps, 4 states kept"
MAPPED = {"MALLOC_MMAP_THRESHOLD_": "65536"}  # each state in pages of its own, which go back when it is freed
EXPLICIT = {each.name: each for each in TABLEAUS if each.explicit}


def gradients(problem: Problem, name: str) -> list[torch.Tensor]:
    """Those of ½Σz² at the end, in the start and the parameters."""
    layers, z = problem._replace(pulled=name in KNOWN).made()
    (WAYS[name](layers, z).square().sum() / 2).backward()
    leaves = [z, *layers.params[0].values()]
    return [each.grad for each in leaves if each.grad is not None]


def ways() -> list[str]:
    """All that this machine can run."""
    there = importlib.util.find_spec("torchdiffeq") is not None
    return [name for name in WAYS if there or "torchdiffeq" not in name]


def distance(found: list[torch.Tensor], exact: list[torch.Tensor]) -> float:
    """Largest difference relative to the largest entry, over the start and the parameters."""
    return max(float((one - other).abs().max() / other.abs().max()) for one, other in zip(found, exact, strict=True))


def errors(depths: list[int]) -> float:
    """The error of every explicit tableau at every depth; the largest."""
    worst = 0.0
    for tableau in EXPLICIT.values():
        for depth in depths:
            problem = Problem(depth, 4, 4, tableau)
            exact = gradients(problem, "pair, all kept")
            found = [distance(gradients(problem, name), exact) for name in (OURS, *list(KNOWN)[:1])]
            print(f"error, {tableau.name}, depth {depth}: {found[0]:.1e}, by hand {found[1]:.1e}", flush=True)
            worst = max(worst, *found)
    return worst


def steps(problem: Problem, name: str) -> Iterator[None]:
    """Endless gradients."""
    while True:
        gradients(problem, name)
        yield None


def times(problem: Problem, repeats: int) -> dict[str, float]:
    """A line for each way; the time of each over that of the reversible one, medians."""
    runs = {name: steps(problem, name) for name in ways()}
    found = interleave(runs, "cpu", repeats=repeats, steps=1, warm_up=1)
    exact, told = gradients(problem, "pair, all kept"), {}
    sizes = f"{problem.samples} by {problem.width}"
    where = f"{problem.tableau.name}, depth {problem.depth}, {sizes}"
    for name, one in found.items():
        over = ratio(one, found[OURS], "process")
        seconds = spread([each.process for each in one]).median
        off = distance(gradients(problem, name), exact)
        print(f"time, {where}: {name}: {seconds * 1e3:.0f} ms, over reversible {over}, error {off:.0e}", flush=True)
        told[name] = over.median
    hand, rival = KNOWN
    print(f"time, {where}: {rival} over {hand}: {ratio(found[rival], found[hand], 'process')}", flush=True)
    return told


def resident(name: str) -> float:
    """VmRSS or VmHWM of this process in MiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name)) / 1024


def peak(problem: Problem, name: str) -> float:
    """MiB above what the process held after a warm-up."""
    gradients(problem._replace(depth=2), name)
    return peak_of(lambda: gradients(problem, name))


def peak_of(act: Callable[[], object]) -> float:
    """MiB above what the process held before."""
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before = resident("VmRSS")
    act()
    return resident("VmHWM") - before


def peaks(problem: Problem, depths: list[int], long: list[int]) -> float:
    """A line for each way; how much the reversible peak changes from the smallest to the largest depth, in percent."""
    ours = []
    for name in ways():
        told = []
        for depth in [*depths, *(long if name in (OURS, next(iter(KNOWN))) else [])]:
            sizes = [str(depth), str(problem.samples), str(problem.width), problem.tableau.name]
            command = [sys.executable, "-m", "benchmarks.adjoints", "--peak", name, *sizes]
            found = subprocess.run(command, capture_output=True, text=True, check=True, env=os.environ | MAPPED).stdout
            told.append(float(found))
            if name == OURS:
                ours.append(told[-1])
        words = ", ".join(f"{mib:.1f}" for mib in told)
        print(f"peak, {problem.tableau.name}, {problem.samples} by {problem.width}: {name}: {words} MiB", flush=True)
    return 100 * (max(ours) / min(ours) - 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=positive)
    parser.add_argument("--short", action="store_true", help="small sizes, three repeats")
    parser.add_argument("--only", choices=("errors", "times", "peaks"), help="one of the three")
    parser.add_argument("--peak", nargs=5, metavar="OF", help="for the processes that measure peaks")
    given = parser.parse_args()
    if given.peak:
        name, depth, samples, width, method = given.peak
        print(peak(Problem(int(depth), int(samples), int(width), EXPLICIT[method]), name))
        return
    short, repeats = given.short, given.repeats or (3 if given.short else 7)
    print(f"float64, {torch.get_num_threads()} thread(s), torch {torch.__version__}", flush=True)
    if given.only in (None, "errors"):
        print(f"largest error of the reversible gradient: {errors([100, 1_000 if short else 10_000]):.1e}", flush=True)
    if given.only in (None, "peaks"):
        depths = [50, 200] if short else [100, 400]
        size, longer = (1_024, [400]) if short else (4_096, [10_000])
        print(f"reversible peak grows by {peaks(Problem(0, size, 16, EULER), depths, longer):.1f} %", flush=True)
    if given.only in (None, "times"):
        tableaus: list[tuple[Tableau, int, int, int]] = [(EULER, 400, 64, 16), (KUTTA4, 400, 64, 16)]
        tableaus += [] if short else [(EULER, 400, 256, 64)]
        found = [times(Problem(depth, samples, width, method), repeats) for method, depth, samples, width in tableaus]
        print(f"√L checkpoints of the pair over reversible: {min(each[SQUARE_ROOT] for each in found):.3f}")
        print(f"four kept states of plain steps over reversible: {min(each[FEW_PLAIN] for each in found):.3f}")
        print("(ratio: four kept states of the pair over the reversible way, the smallest; both take constant memory)")
        print(f"ratio: {min(each[FEW] for each in found):.3f}")


if __name__ == "__main__":
    main()
