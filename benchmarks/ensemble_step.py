"""How much of the machine's matrix-product rate a gradient step of a large two-layer ensemble keeps.

Ensemble: 33 scales × 10 seeds of ReLU nets with d = 100, m = 50 and one output on n = 1000 samples; the runs of a seed
share their data. A step is outputs, risk, gradient of both layers and the update of the weights. Useful work is that of
the matrix products alone: 4ndm for the two with the inputs and 4nm for the two with the output weights, a run.
The machine's rate is that of a large square product in the same precision, measured in turns with the step; of its
repeats the best counts, since other programs slow a large product on two cores more than a step (whose threads share
the work as they find time). The last line is the ratio of the median step to that best product.

Run: python -m benchmarks.ensemble_step [threads], 2 unless given
"""

import statistics
import sys
import time
from collections.abc import Callable

import torch

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


def share(dtype: torch.dtype) -> float:
    """Median rate of the step over the best rate of the large product."""
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
    rates = []
    for _ in range(REPEATS):
        rates.append((work / seconds(steps) / 1e9, 2 * SIDE**3 / seconds(machine) / 1e9))
        print(f"  {dtype}: step {rates[-1][0]:6.1f} GFlop/s, large product {rates[-1][1]:6.1f} GFlop/s")
    of_step, of_machine = zip(*rates, strict=True)
    best, median = max(of_machine), statistics.median(of_step)
    spread = f"{min(of_step) / best:.2f} to {max(of_step) / best:.2f} in {REPEATS} repeats"
    print(f"{dtype}: {median:.1f} of {best:.1f} GFlop/s, share {median / best:.2f}, from {spread}")
    return median / best


def main() -> None:
    threads = int(sys.argv[1]) if len(sys.argv) > 1 else 2
    torch.set_num_threads(threads)
    print(f"{SCALES * SEEDS} runs, d={INPUTS}, m={WIDTH}, n={SAMPLES}, {threads} thread(s), torch {torch.__version__}")
    found = [share(dtype) for dtype in (torch.float32, torch.float64)]
    print("ratio: share of the machine's matrix-product rate in the worse of the two precisions")
    print(f"ratio: {min(found):.2f}")


if __name__ == "__main__":
    main()
