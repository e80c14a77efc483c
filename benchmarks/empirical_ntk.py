"""The tangent kernel of real networks, beside torch.func and neural-tangents, in one process.

Every way computes Θ of the same weights and samples in float32, full (n, n, k, k) or its trace (n, n); how far each is
from float64 is printed first, on a few samples. The rivals are those of benchmarks.kernel_rivals: the two ways of
torch.func's tutorial, the better of them arranged by hand, and neural-tangents (JACOBIAN_CONTRACTION and
NTK_VECTOR_PRODUCTS, which work on today's jax; it is given the dense net only), compiled.
A turn is regimes several times, the rival once, regimes several times again: what else the machine does meets both.
Its ratio is the rival's time over the median of regimes in that turn, by processor time (which other work disturbs
least) and by the wall. Each turn is printed as it ends and written to --record, so that a stopped measurement goes on.
A rival that would take more than --limit seconds of processor (judged by n = 20, growing as n²) is measured on fewer
samples, and regimes with it: the line says how many. No time is extrapolated.
Peaks: resident memory that a way adds, in a process of its own; rivals run on at most 40 samples for it, where their
blocks are full. Rate: floating-point operations that regimes does (counted by torch) over its processor time, as a
share of the rate of a product of two matrices of 2,000 rows, measured in turn.

Run: python -m benchmarks.empirical_ntk [--net mlp|resnet9|encoder|resnet20|resnet18] [--outputs full|trace]
[--samples 200] [--turns 3] [--limit 600] [--record FILE] [--short]
--short is n = 12 and no peaks: minutes on one core. OMP_NUM_THREADS sets the threads.
"""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.kernel_rivals import RIVALS, Way
from benchmarks.tangent_nets import NETS, OUTPUTS, made
from benchmarks.timing import Seconds, positive, require_equal, spread, turn
from regimes.lab.provenance import git_state
from regimes.tangent.kernel import ntk

OWN = 3  # calls of regimes before, and after, a rival's turn
LONG = 60.0  # seconds of processor after which calls are not repeated any more
FEW, ENOUGH = 20, 40  # samples by which times are foreseen, and on which peaks of rivals are measured


def regimes(model: torch.nn.Module, x: Tensor, outputs: str) -> Tensor:
    return ntk(model, x, outputs=outputs)


def rivals(name: str) -> dict[str, Way]:
    """Those that take this network, on this machine."""
    found: dict[str, Way] = {}
    for rival, create in RIVALS.items():
        if name != "mlp" and rival.startswith("neural-tangents"):
            continue
        try:
            found[rival] = create()
        except ImportError as missing:
            print(f"  {rival}: left out, {missing}")
    return found


def agree(name: str, outputs: str, ways: dict[str, Way]) -> None:
    """Largest difference of each way from float64, relative to the largest entry, on a few samples."""
    model, x = made(name, 3)
    kernels = {way: work(model, x, outputs) for way, work in ways.items()}
    exact = ntk(model.double(), x.double(), outputs=outputs)
    for way, kernel in kernels.items():
        distance = float((kernel.double() - exact).abs().max() / exact.abs().max())
        require_equal(way, distance, 1e-3)
        print(f"  {way}: differs by {distance:.1e}", flush=True)


def alone(name: str, outputs: str, way: str, samples: int) -> None:
    """Print the MiB of resident memory that the way adds (Linux)."""

    def resident(entry: str) -> int:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith(entry)) // 1024

    model, x = made(name, samples)
    work = {"regimes": lambda: regimes, **RIVALS}[way]()
    work(model, x[:1], outputs)  # libraries, and what they compile
    before = resident("VmRSS")
    work(model, x, outputs)
    print(max(0, resident("VmHWM") - before))


def peak(name: str, outputs: str, way: str, samples: int) -> int:
    """MiB that one way takes in a process of its own, above what was there before."""
    command = [sys.executable, "-m", "benchmarks.empirical_ntk", "--net", name, "--samples", str(samples)]
    command += ["--outputs", outputs, "--alone", way]
    return int(subprocess.run(command, check=True, capture_output=True, text=True, env=os.environ).stdout.split()[-1])


def _of_addmm(_: Any, left: Any, right: Any, **__: Any) -> int:
    """Floating-point operations of a product of two matrices, from shapes."""
    return 2 * left[0] * left[1] * right[1]


def times(work: Callable[[], object], most: int) -> Iterator[Seconds]:
    """Of `most` calls one by one, or of fewer once these have taken long."""
    spent = 0.0
    for _ in range(most):
        taken = turn(work, "cpu")
        yield taken
        spent += taken.process
        if spent > LONG:
            return


def rate(name: str, outputs: str, samples: int) -> None:
    """Print the rate that regimes reaches, and its share of that of a matrix product."""
    model, x = made(name, samples)
    a, b = torch.randn(2, 2000, 2000)
    # torch counts no product that is added in place, which is how long rows are multiplied
    with FlopCounterMode(display=False, custom_mapping={torch.ops.aten.addmm_: _of_addmm}) as counter:
        regimes(model, x, outputs)
    shares, rates = [], []
    turn(lambda: a @ b, "cpu")
    for own in times(lambda: regimes(model, x, outputs), 5):
        product = 2 * 2000**3 / turn(lambda: a @ b, "cpu", 3).process
        rates.append(counter.get_total_flops() / own.process)
        shares.append(rates[-1] / product)
    print(f"  rate: {median(rates) / 1e9:.1f} GFlop a second of processor, {spread(shares)} of a matrix product")


def _turn(line: str) -> dict[str, Any]:
    """A turn of a record; nothing of a line that a killed run has left half written."""
    try:
        return json.loads(line)
    except json.JSONDecodeError:
        return {}


class Record:
    """Turns measured so far, a line of JSON each; those of other code, threads or torch stay, and do not count."""

    def __init__(self, path: Path | None) -> None:
        self.path = path
        commit, changed = git_state()
        self.by = {"threads": torch.get_num_threads(), "torch": torch.__version__, "commit": commit, "changed": changed}
        self.turns: list[dict[str, Any]] = []
        if path is not None:
            with path.open("a+") as file:  # before the first turn: is it one that can be written to?
                file.seek(0)
                text = file.read()
                file.write("\n" * (text[-1:] not in ("", "\n")))  # the next turn begins a line of its own
            self.turns = [turn for line in text.splitlines() if (turn := _turn(line))]

    def of(self, **what: Any) -> list[dict[str, Any]]:
        return [
            each for each in self.turns if all(each.get(key) == value for key, value in {**self.by, **what}.items())
        ]

    def add(self, **one: Any) -> None:
        one = self.by | one
        self.turns.append(one)
        if self.path is not None:
            with self.path.open("a") as file:
                file.write(json.dumps(one) + "\n")


def one_turn(record: Record, what: dict[str, Any], work: Callable[[], object], own: Callable[[], object]) -> None:
    """Regimes, the rival, regimes; printed and recorded."""
    own()
    before = list(times(own, OWN))
    taken = turn(work, "cpu")
    after = list(times(own, OWN))
    mine = {clock: median(getattr(each, clock) for each in (*before, *after)) for clock in ("process", "wall")}
    ratios = {clock: getattr(taken, clock) / mine[clock] for clock in mine}
    print(
        f"  {what['way']}, n = {what['samples']}: processor {taken.process:.2f} s against {mine['process']:.3f} s, "
        f"ratio {ratios['process']:.1f}; wall {taken.wall:.2f} s against {mine['wall']:.3f} s, "
        f"ratio {ratios['wall']:.1f}",
        flush=True,
    )
    record.add(**what, process=taken.process, wall=taken.wall, own=mine, ratio=ratios)


def affordable(name: str, outputs: str, work: Way, samples: int, limit: float) -> int:
    """All samples if the time on few of them says so, else so many that the limit holds. Warms the rival up, too."""
    model, x = made(name, samples)
    few = min(FEW, samples)
    work(model, x[:2], outputs)
    taken = turn(lambda: work(model, x[:few], outputs), "cpu").process
    if taken * (samples / few) ** 2 <= limit:
        return samples
    fits = int(few * (limit / taken) ** 0.5)
    return max(few, fits - fits % 10)


def measure(name: str, outputs: str, samples: int, turns: int, limit: float, record: Record, peaks: bool) -> None:
    model, x = made(name, samples)
    size = sum(value.numel() for value in model.parameters())
    print(f"{name}, {outputs}: n = {samples}, {OUTPUTS} outputs, {size} parameters", flush=True)
    ways = rivals(name)
    agree(name, outputs, {"regimes": regimes, **ways})
    rate(name, outputs, samples)
    for way, work in ways.items():
        what = {"net": name, "outputs": outputs, "way": way, "asked": samples}
        known = record.of(**what)
        n = known[0]["samples"] if known else affordable(name, outputs, work, samples, limit)
        if n < samples:
            print(f"  {way}: on {n} samples, as {samples} would take more than {limit:g} s")
        if len(known) < turns and way.startswith("neural-tangents"):
            work(model, x[:n], outputs)  # compiled for this number of samples
        for _ in range(turns - len(known)):
            one_turn(
                record,
                {**what, "samples": n},
                lambda work=work, n=n: work(model, x[:n], outputs),
                lambda n=n: regimes(model, x[:n], outputs),
            )
    summary(record, name, outputs, samples)
    if peaks:
        for way in ("regimes", *ways):
            count = samples if way == "regimes" else min(samples, ENOUGH)
            print(f"  peak of {way} on {count} samples: {peak(name, outputs, way, count)} MiB", flush=True)


def summary(record: Record, name: str, outputs: str, samples: int) -> None:
    """The ratio to each rival over all turns, and the one that counts: to the quickest."""
    ratios = {}
    for way in RIVALS:
        known = record.of(net=name, outputs=outputs, way=way, asked=samples)
        if known:
            ratios[way] = spread([each["ratio"]["process"] for each in known])
            wall = spread([each["ratio"]["wall"] for each in known])
            print(f"  ratio to {way}, n = {known[0]['samples']}: {ratios[way]} of processor time, {wall} of the wall")
    if ratios:
        best = min(ratios, key=lambda way: ratios[way].median)
        print(f"{name}, {outputs}: ratio: {ratios[best]} against the quickest, {best}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--net", choices=NETS, action="append")
    parser.add_argument("--outputs", choices=("full", "trace"), default="full")
    parser.add_argument("--samples", type=positive, default=200)
    parser.add_argument("--turns", type=positive, default=3)
    parser.add_argument("--limit", type=positive, default=600, help="seconds of processor that a rival's turn may take")
    parser.add_argument("--record", type=Path)
    parser.add_argument("--short", action="store_true")
    parser.add_argument("--alone", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.alone:
        alone(given.net[0], given.outputs, given.alone, given.samples)
        return
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, load {os.getloadavg()[0]:.1f}")
    if given.record and not given.record.absolute().parent.is_dir():
        parser.error(f"--record needs a file in a folder that exists; got {given.record}")
    record, samples = Record(given.record), 12 if given.short else given.samples
    for name in given.net or ("mlp", "resnet9", "encoder"):
        measure(name, given.outputs, samples, given.turns, given.limit, record, not given.short)


if __name__ == "__main__":
    main()
