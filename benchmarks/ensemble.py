"""45 two-layer runs as one ensemble against the same 45 runs one after the other in plain torch.

9 scales α × 5 seeds, d = 10 inputs, m = 100 ReLU neurons, n = 50 samples; full-batch gradient descent on F_α, the same
start and number of iterations. Plain torch is what one would write for a single run: nn.Module, autograd, SGD. They
take turns in one process on one thread, after a warm-up, and their weights are compared at the end.
The last line is the ratio of their times, plain over ensemble, in the precision where it is smaller.

Run: python -m benchmarks.ensemble
"""

import argparse
import statistics
import time

import torch
from torch import Tensor, nn

from regimes.activations import RELU
from regimes.conventions import generator
from regimes.meanfield.flow import descend
from regimes.meanfield.particles import Particles, double, gaussian
from regimes.meanfield.two_layer import TwoLayerRisk

SCALES, SEEDS, INPUTS, WIDTH, SAMPLES = 9, 5, 10, 100, 50
STEP, ITERATIONS, REPEATS = 10.0, 100, 7


class Net(nn.Module):
    """α (1/m) Σ_j a_j relu(b_j·x)."""

    def __init__(self, output: Tensor, input: Tensor, alpha: float) -> None:
        super().__init__()
        self.output, self.input = nn.Parameter(output.clone()), nn.Parameter(input.clone())
        self.alpha = alpha

    def forward(self, x: Tensor) -> Tensor:
        return self.alpha / len(self.input) * (torch.relu(x @ self.input.T) @ self.output)


def train_plain(x: Tensor, y: Tensor, start: Particles, alpha: Tensor) -> Particles:
    """The runs one after the other; runs of a seed share its data."""
    nets = []
    for run in range(start.runs):
        inputs, targets, scale = x[run // SCALES], y[run // SCALES], float(alpha[run])
        net = Net(start.output[run], start.input[run], scale)
        optimiser = torch.optim.SGD(net.parameters(), lr=STEP)
        for _ in range(ITERATIONS):
            optimiser.zero_grad()
            loss = (net(inputs) - targets).square().sum(1).mean() / (2 * scale**2)
            loss.backward()
            optimiser.step()
        nets.append(net)
    return Particles(*(torch.stack([getattr(net, name).detach() for net in nets]) for name in ("output", "input")))


def train_ensemble(x: Tensor, y: Tensor, start: Particles, alpha: Tensor) -> Particles:
    risk = TwoLayerRisk(x, y, RELU, alpha=alpha)
    ((_, end),) = descend(risk, start, step=STEP, iterations=ITERATIONS, record=[ITERATIONS])
    return end


def compare(dtype: torch.dtype) -> list[float]:
    """Ratio of the times, one a repeat."""
    x = torch.randn(SEEDS, SAMPLES, INPUTS, generator=generator(0), dtype=dtype)
    y = torch.randn(SEEDS, SAMPLES, 1, generator=generator(1), dtype=dtype)
    streams = [generator(2, seed) for seed in range(SEEDS) for _ in range(SCALES)]
    start = double(gaussian(WIDTH // 2, INPUTS, generators=streams, dtype=dtype))
    alpha = torch.logspace(0, 4, SCALES).repeat(SEEDS).to(dtype)
    work = {"plain torch": train_plain, "ensemble": train_ensemble}
    ends = {name: train(x, y, start, alpha) for name, train in work.items()}
    # The weights are equal up to rounding, which α magnifies in the outputs and so in the steps.
    tolerance = 1e-9 if dtype == torch.float64 else 1e-2
    for plain, ours in zip(*ends.values(), strict=True):
        torch.testing.assert_close(plain, ours, rtol=tolerance, atol=tolerance)
    moved = (ends["ensemble"].input - start.input).abs().amax((1, 2))
    assert moved[::SCALES].min() > 0.1, "the mean-field runs should have moved"
    times: dict[str, list[float]] = {name: [] for name in work}
    for _ in range(REPEATS):
        for name, train in work.items():
            began = time.perf_counter()
            train(x, y, start, alpha)
            times[name].append(time.perf_counter() - began)
    for name, seconds in times.items():
        each = [1e6 * value / ITERATIONS for value in seconds]
        spread = f"{min(each):.0f} to {max(each):.0f}"
        print(f"  {dtype} {name}: {statistics.median(each):.0f} µs an iteration of all runs ({spread})")
    return [plain / ours for plain, ours in zip(*times.values(), strict=True)]


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    torch.set_num_threads(1)
    print(f"{SCALES * SEEDS} runs, d={INPUTS}, m={WIDTH}, n={SAMPLES}, one thread, torch {torch.__version__}")
    worst = float("inf")
    for dtype in (torch.float32, torch.float64):
        ratios = compare(dtype)
        median = statistics.median(ratios)
        print(f"{dtype}: {median:.1f} times as fast, from {min(ratios):.1f} to {max(ratios):.1f} in {REPEATS} repeats")
        worst = min(worst, median)
    print(f"ratio: {worst:.1f}")


if __name__ == "__main__":
    main()
