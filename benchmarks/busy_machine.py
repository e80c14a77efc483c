"""How much longer the main job takes on a machine whose cores are busy, beside its time on the machine as it is.

Four busy loops (or LOOPS) are what others do. A round runs the command once without and once with them, so that what
else the machine does meets both; the ratio of a round is the number. Wall times are judged, since waiting is the point;
the processor time of the command, its threads together, stands beside them: threads that spin while they wait show
there. Threads: as the program chooses them, or forced to a number by the second argument, which shows what a choice
that ignores the size of the work would cost.

Run: python -m benchmarks.busy_machine [rounds] [threads] [loops], 3 rounds unless given, threads "own" unless given.
"""

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from benchmarks.timing import positive

ROOT = Path(__file__).parent.parent
COMMAND = ["lazy-vs-meanfield", "--alpha", "100"]
LOOPS = 4
LIMIT = 3600  # seconds after which a run, and each loop, is given up
MOST = 4.0  # times its quiet time that the command may take
FORCED = "import sys, regimes.threads as t; t.threads = lambda work: {}; from regimes.cli import main; main()"


class Cost(NamedTuple):
    """Seconds of one run of the command on the wall, and of the processor in all its threads."""

    wall: float
    processor: float


@contextmanager
def busy(loops: int) -> Iterator[None]:
    """So many processes that do nothing but take time."""
    code = f"import time\nend = time.monotonic() + {LIMIT}\nwhile time.monotonic() < end: pass"
    started = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(loops)]
    try:
        yield
    finally:
        for process in started:
            process.kill()
            process.wait()


def run(threads: str) -> Cost:
    """The command from start to end, in a folder of its own."""
    start = ["cli.py"] if threads == "own" else ["-c", FORCED.format(int(threads))]
    before, clock = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(
            [sys.executable, *start, *COMMAND, "--out", f"{folder}/run"],
            cwd=ROOT,
            timeout=LIMIT,
            check=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    spent = (after.ru_utime - before.ru_utime) + (after.ru_stime - before.ru_stime)
    return Cost(time.perf_counter() - clock, spent)


def main(rounds: int = 3, threads: str = "own", loops: int = LOOPS) -> float:
    """The median ratio of the rounds; each is printed."""
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} before, {loops} busy loops, threads: {threads}")
    ratios = []
    for number in range(rounds):
        quiet = run(threads)
        with busy(loops):
            loaded = run(threads)
        ratios.append(loaded.wall / quiet.wall)
        print(
            f"round {number + 1}: quiet {quiet.wall:.1f} s ({quiet.processor:.1f} s of processor), beside the loops "
            f"{loaded.wall:.1f} s ({loaded.processor:.1f} s of processor), ratio {ratios[-1]:.2f}",
            flush=True,
        )
    ratio = statistics.median(ratios)
    print(f"median ratio {ratio:.2f}: {'at most' if ratio <= MOST else 'more than'} {MOST:g}")
    return ratio


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rounds", nargs="?", type=positive, default=3)
    parser.add_argument(
        "threads", nargs="?", type=lambda text: text if text == "own" else str(positive(text)), default="own"
    )
    parser.add_argument("loops", nargs="?", type=positive, default=LOOPS)
    main(**vars(parser.parse_args()))
