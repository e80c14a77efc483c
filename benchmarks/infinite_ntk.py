"""The infinite-width kernels of a dense net beside neural-tangents, in one process, on the same processor.

Both compute NNGP and NTK of a ReLU net with `depth` hidden layers and σ_w² = 2 on the first MNIST digits (or on normal
numbers where MNIST is absent), without biases, as is the default of both, or with --sigma-b. regimes computes in
float64. neural-tangents is called as its pages show it ("plain": one operation after the other), and compiled as a
whole (jax.jit), in float64 and, which is less than is asked for here, in float32.
The largest difference between the float64 results, off the diagonal and on it, is printed first: on it
neural-tangents takes the arc cosine of a rounded 1.
Each repeat takes a turn of every way, in an order that rotates, after two warm-ups each, which hold the compilation.
The last lines are the ratios of the time of neural-tangents in float64 to that of regimes, turn by turn. The peak
memory of each way is that of a process of its own, over what was there after a first call on ten samples.

Run: python -m benchmarks.infinite_ntk [--samples 1000] [--depth 3] [--sigma-b 0.1] [--repeats 7] [--no-peaks]
All of it runs on one processor, which the process is bound to (Linux).
"""

import argparse
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.timing import interleave, positive, ratio, require_equal, spread
from regimes.activations import RELU
from regimes.data.images import mnist
from regimes.tangent.infinite import dense_kernels
from regimes.tangent.neural_tangents import dense_network, library

SIGMA_W = 2**0.5
OURS, THEIRS, PLAIN = "regimes", "neural-tangents, compiled", "neural-tangents, plain"
Way = Callable[[Tensor], object]


def inputs(samples: int) -> tuple[str, Tensor]:
    """Where they come from, and (n, 784) in float64."""
    try:
        return "MNIST", mnist().x_train[:samples].to(torch.float64) / 255
    except (OSError, ValueError) as absent:
        print(f"normal numbers in place of MNIST: {str(absent).splitlines()[0]}")
        return "normal numbers", torch.randn(samples, 784, dtype=torch.float64)


def ways(depth: int, sigma_b: float) -> dict[str, Way]:
    """Each way from inputs to kernels, ready on the host."""
    import jax
    import numpy as np

    library()
    kernel = dense_network(depth=depth, activation=RELU, sigma_w=SIGMA_W, sigma_b=sigma_b)[2]
    compiled = jax.jit(lambda x: kernel(x, None, ("nngp", "ntk")))

    def theirs(call: Callable[..., object], dtype: type) -> Way:
        def run(x: Tensor) -> object:
            with jax.enable_x64(dtype is np.float64):
                return jax.block_until_ready(call(x.numpy().astype(dtype)))

        return run

    return {
        OURS: lambda x: dense_kernels(x, depth=depth, activation=RELU, sigma_w=SIGMA_W, sigma_b=sigma_b),
        THEIRS: theirs(compiled, np.float64),
        f"{THEIRS}, float32": theirs(compiled, np.float32),
        PLAIN: theirs(lambda x: kernel(x, None, ("nngp", "ntk")), np.float64),
    }


def endless(work: Way, x: Tensor) -> Iterator[object]:
    while True:
        yield work(x)


def agree(x: Tensor, depth: int, sigma_b: float) -> None:
    """Largest difference between the two, relative to the largest entry."""
    found = ways(depth, sigma_b)
    ours, theirs = found[OURS](x), found[THEIRS](x)
    for name in ("nngp", "ntk"):
        one, other = getattr(ours, name), torch.from_numpy(getattr(theirs, name).__array__().copy())
        error = (one - other).abs() / other.abs().max()
        require_equal(name, float(error.max()), 1e-6)
        diagonal = float(error.diagonal().max())
        print(f"  {name} differs by {float(error.fill_diagonal_(0).max()):.1e}, on the diagonal by {diagonal:.1e}")


def peak(way: str, samples: int, depth: int, sigma_b: float) -> str:
    """MiB that one way takes in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.infinite_ntk", "--samples", str(samples), "--depth", str(depth)]
    command += ["--sigma-b", str(sigma_b)]
    done = subprocess.run([*command, "--alone", way], check=True, capture_output=True, text=True)
    return done.stdout.split()[-1]


def alone(way: str, samples: int, depth: int, sigma_b: float) -> None:
    """Print the MiB that the way adds to the largest memory of this process, after a first call on ten samples."""
    x, work = inputs(samples)[1], ways(depth, sigma_b)[way]
    work(x[:10])
    before = largest()
    work(x)
    print(largest() - before)


def largest() -> int:
    """MiB of resident memory that this process has had at most (Linux)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) // 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=positive, default=1000)
    parser.add_argument("--depth", type=positive, default=3)
    parser.add_argument("--sigma-b", type=float, default=0.0)
    parser.add_argument("--repeats", type=positive, default=7)
    parser.add_argument("--no-peaks", action="store_true")
    parser.add_argument("--alone", help=argparse.SUPPRESS)
    given = parser.parse_args()
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    torch.set_num_threads(1)
    if given.alone:
        alone(given.alone, given.samples, given.depth, given.sigma_b)
        return
    source, x = inputs(given.samples)
    print(
        f"{source}, n = {len(x)}, {given.depth} hidden layers, sigma_b = {given.sigma_b}, "
        f"torch {torch.__version__}, one processor"
    )
    agree(x, given.depth, given.sigma_b)
    steps = {name: endless(work, x) for name, work in ways(given.depth, given.sigma_b).items()}
    times = interleave(steps, "cpu", repeats=given.repeats, steps=1, warm_up=2)
    for way, taken in times.items():
        memory = "" if given.no_peaks else f", peak {peak(way, given.samples, given.depth, given.sigma_b)} MiB"
        print(f"  {way}: {spread([each.wall for each in taken])} s, "
              f"processor {spread([each.process for each in taken])} s{memory}", flush=True)  # fmt: skip
    for rival in (PLAIN, THEIRS):
        for clock, words in (("process", "processor time"), ("wall", "wall time")):
            print(f"n = {len(x)}, ratio in {words}: {ratio(times[rival], times[OURS], clock)} against {rival}")


if __name__ == "__main__":
    main()
