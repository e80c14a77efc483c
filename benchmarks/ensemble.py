"""45 two-layer runs as one ensemble against the same 45 runs one after the other in plain torch.

9 scales α × 5 seeds, d = 10 inputs, m = 100 ReLU neurons, n = 50 samples; full-batch gradient descent on F_α, the same
start and number of iterations. Plain torch is what one would write for a single run: nn.Module, autograd, SGD. It gets
one thread, its best setting, as its operations are too small to share; the ensemble is measured on one thread and on as
many as torch takes by default. All take turns in one process, after a warm-up; their weights are compared at the start.
The last line is the ratio of the times, plain over ensemble on all threads, in the precision where it is smaller.

Run: python -m benchmarks.ensemble
"""

import statistics
import time
from collections.abc import Callable

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


def compare(dtype: torch.dtype, threads: int) -> float:
    """Median ratio of the times of plain torch and of the ensemble on all threads."""
    x = torch.randn(SEEDS, SAMPLES, INPUTS, generator=generator(0), dtype=dtype)
    y = torch.randn(SEEDS, SAMPLES, 1, generator=generator(1), dtype=dtype)
    streams = [generator(2, seed) for seed in range(SEEDS) for _ in range(SCALES)]
    start = double(gaussian(WIDTH // 2, INPUTS, generators=streams, dtype=dtype))
    alpha = torch.logspace(0, 4, SCALES).repeat(SEEDS).to(dtype)

    def timed(train: Callable[..., Particles], on: int) -> tuple[float, Particles]:
        torch.set_num_threads(on)
        began = time.perf_counter()
        end = train(x, y, start, alpha)
        return time.perf_counter() - began, end

    work = {"plain": (train_plain, 1), "ensemble, 1 thread": (train_ensemble, 1)}
    work[f"ensemble, {threads} thread(s)"] = (train_ensemble, threads)
    plain, *ours = (timed(*each)[1] for each in work.values())
    # The weights are equal up to rounding, which α magnifies in the outputs and so in the steps.
    tolerance = 1e-9 if dtype == torch.float64 else 1e-2
    for end in ours:
        torch.testing.assert_close(tuple(end), tuple(plain), rtol=tolerance, atol=tolerance)
    if (plain.input - start.input)[::SCALES].abs().amax((1, 2)).min() < 0.1:
        raise RuntimeError("the runs with α = 1 should have moved; the comparison would be empty")
    times: dict[str, list[float]] = {name: [] for name in work}
    for _ in range(REPEATS):
        for name, each in work.items():
            times[name].append(timed(*each)[0])
    ratios = [1.0]
    for name, seconds in times.items():
        each = [1e6 * value / ITERATIONS for value in seconds]
        ratios = [one / other for one, other in zip(times["plain"], seconds, strict=True)]
        print(f"{dtype} {name}: {statistics.median(each):.0f} µs an iteration of all runs", end=" ")
        print(f"({min(each):.0f} to {max(each):.0f}), {statistics.median(ratios):.1f} times as fast as plain", end=" ")
        print(f"({min(ratios):.1f} to {max(ratios):.1f} in {REPEATS} repeats)")
    return statistics.median(ratios)


def main() -> None:
    threads = torch.get_num_threads()
    print(f"{SCALES * SEEDS} runs, d={INPUTS}, m={WIDTH}, n={SAMPLES}, torch {torch.__version__}")
    found = [compare(dtype, threads) for dtype in (torch.float32, torch.float64)]
    print(f"ratio: {min(found):.1f}")


if __name__ == "__main__":
    main()
