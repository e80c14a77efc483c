"""How much of the machine's matrix-product rate a gradient step of a large two-layer ensemble keeps.

Ensemble: 33 scales × 10 seeds of ReLU nets with d = 100, m = 50 and one output on n = 1000 samples; the runs of a seed
share their data. A step is outputs, risk, gradient of both layers and the update of the weights. Useful work is that of
the matrix products alone: 4ndm for the two with the inputs and 4nm for the two with the output weights, a run.
The machine's rate is that of a large square product in the same precision, measured in turns with the step.

Run: python -m benchmarks.ensemble_step [threads], 2 unless given. More than one thread needs a machine that does
nothing else: a step has some hundred meeting points of the threads, the large product a few.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch

from benchmarks.timing import positive
from regimes.activations import RELU
from regimes.conventions import generator
from regimes.meanfield.flow import descend
from regimes.meanfield.particles import double, gaussian
from regimes.meanfield.two_layer import TwoLayerRisk

SCALES, SEEDS, INPUTS, WIDTH, SAMPLES = 33, 10, 100, 50, 1000
SIDE = 3000  # of the large square product
REPEATS, ITERATIONS = 9, 3


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def shares(dtype: torch.dtype) -> list[float]:
    """Rate of the step over the rate of a large product, one figure a repeat."""
    runs = SCALES * SEEDS
    x = torch.randn(SEEDS, SAMPLES, INPUTS, generator=generator(0), dtype=dtype)
    y = torch.randn(SEEDS, SAMPLES, 1, generator=generator(1), dtype=dtype)
    risk = TwoLayerRisk(x, y, RELU, alpha=torch.logspace(-1, 2, SCALES).repeat(SEEDS))
    start = double(gaussian(WIDTH // 2, INPUTS, generators=[generator(2, run) for run in range(runs)], dtype=dtype))
    square = torch.randn(SIDE, SIDE, generator=generator(3), dtype=dtype)
    product = torch.empty_like(square)

    def steps() -> None:
        for _ in descend(risk, start, step=0.1, iterations=ITERATIONS, record=[ITERATIONS]):
            pass

    def machine() -> None:
        torch.mm(square, square, out=product)

    work = ITERATIONS * runs * (4 * SAMPLES * INPUTS * WIDTH + 4 * SAMPLES * WIDTH)
    steps()
    machine()
    found = []
    for _ in range(REPEATS):
        step_rate, machine_rate = work / seconds(steps), 2 * SIDE**3 / seconds(machine)
        found.append(step_rate / machine_rate)
        rates = f"step {step_rate / 1e9:6.1f} GFlop/s, machine {machine_rate / 1e9:6.1f} GFlop/s"
        print(f"  {dtype}: {rates}: {found[-1]:.2f}")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("threads", nargs="?", type=positive, default=2)
    threads = parser.parse_args().threads
    torch.set_num_threads(threads)
    print(f"{SCALES * SEEDS} runs, d={INPUTS}, m={WIDTH}, n={SAMPLES}, {threads} thread(s), torch {torch.__version__}")
    worst = 1e9
    for dtype in (torch.float32, torch.float64):
        found = shares(dtype)
        median = statistics.median(found)
        print(f"{dtype}: median {median:.2f}, from {min(found):.2f} to {max(found):.2f} in {REPEATS} repeats")
        worst = min(worst, median)
    print("(ratio: share of the machine's matrix-product rate, the worse precision)")
    print(f"ratio: {worst:.2f}")


if __name__ == "__main__":
    main()
