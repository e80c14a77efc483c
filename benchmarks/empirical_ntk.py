"""The full tangent kernel of a dense net and of a ResNet9, beside torch.func and neural-tangents, in one process.

Every way computes Θ (n, n, k, k) of the same weights and samples in float32; their largest difference from regimes in
float64 is printed first, on a few samples. torch.func contracts Jacobians, or takes NTK-vector products, as its
tutorial does, in blocks that fit into memory; neural-tangents (JACOBIAN_CONTRACTION and NTK_VECTOR_PRODUCTS, the ones
that work on today's jax) is compiled and runs in batches; it is given the dense net only. "row by row" is regimes
without the layerwise route.
Each repeat takes a turn of every way, in an order that rotates, after one warm-up each. The last line is the ratio of
the quickest rival's time to that of regimes, turn by turn. The peak memory of each way is that of a process of its own.

Run: python -m benchmarks.empirical_ntk [--net mlp|resnet9|resnet18] [--samples 200] [--repeats 3] [--short]
--short is n = 12 and no peaks: minutes on one core. OMP_NUM_THREADS sets the threads.
"""

import argparse
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call, jacrev, jvp, vjp, vmap

from benchmarks.timing import interleave, ratio, spread
from regimes.models.build import build
from regimes.tangent import operator
from regimes.tangent.gram.coverage import Coverage, coverage
from regimes.tangent.kernel import ntk

OUTPUTS, JACOBIANS, MEMORY = 10, 2**30, 2**31  # outputs; bytes of a block of Jacobians; memory given to regimes
RIVALS_AT_MOST = 40  # samples for the ways that would take an hour at full size
Way = Callable[[], object]


def dense() -> nn.Module:
    return nn.Sequential(
        nn.Linear(784, 1000), nn.ReLU(), nn.Linear(1000, 1000), nn.ReLU(), nn.Linear(1000, OUTPUTS)
    )  # fmt: skip


NETS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "mlp": (dense, (784,)),
    "resnet9": (lambda: build("resnet9", (1, 28, 28), OUTPUTS, filters=32), (1, 28, 28)),
    "resnet18": (lambda: build("preact_resnet", (3, 32, 32), OUTPUTS), (3, 32, 32)),
}


def made(name: str, samples: int) -> tuple[nn.Module, Tensor]:
    torch.manual_seed(0)
    create, shape = NETS[name]
    return create().eval(), torch.randn(samples, *shape)


def _functional(model: nn.Module) -> tuple[Callable[..., Tensor], dict[str, Tensor]]:
    params = {name: value.detach() for name, value in model.named_parameters()}
    return lambda values, x: functional_call(model, values, (x[None],))[0], params


def _blocks(model: nn.Module, n: int) -> int:
    row = 4 * OUTPUTS * sum(value.numel() for value in model.parameters())
    return max(1, min(n, JACOBIANS // row))


def jacobian_contraction(model: nn.Module, x: Tensor) -> Tensor:
    """Jacobians of blocks of samples, contracted by parameters; those of the right side are formed again."""
    f, params = _functional(model)
    size, kernel = _blocks(model, len(x)), torch.empty(len(x), len(x), OUTPUTS, OUTPUTS)
    of = vmap(jacrev(f), (None, 0))
    for i in range(0, len(x), size):
        left = [each.flatten(2) for each in of(params, x[i : i + size]).values()]
        for j in range(i, len(x), size):
            right = left if i == j else [each.flatten(2) for each in of(params, x[j : j + size]).values()]
            part = sum(torch.einsum("nap,mbp->nmab", a, b) for a, b in zip(left, right, strict=True))
            kernel[i : i + size, j : j + size] = part
            kernel[j : j + size, i : i + size] = part.permute(1, 0, 3, 2)
    return kernel


def vector_products(model: nn.Module, x: Tensor) -> Tensor:
    """For each pair of samples and each output: one product with Jᵀ, one with J."""
    f, params = _functional(model)

    def pair(one: Tensor, other: Tensor) -> Tensor:
        _, pull = vjp(lambda values: f(values, one), params)[:2]

        def product(unit: Tensor) -> Tensor:
            return jvp(lambda values: f(values, other), (params,), (pull(unit)[0],))[1]

        return vmap(product)(torch.eye(OUTPUTS))

    row, rows = vmap(pair, (None, 0)), []
    size = _blocks(model, len(x))
    for i, one in enumerate(x):
        right = [row(one, part).mT for part in x[i:].split(size)]
        rows.append(torch.cat([one.new_zeros(i, OUTPUTS, OUTPUTS), *(each.mT for each in right)]))
    upper = torch.stack(rows)
    lower = upper.permute(1, 0, 3, 2)
    index = torch.arange(len(x))
    return torch.where((index[:, None] <= index)[..., None, None], upper, lower)


def neural_tangents(model: nn.Module, x: Tensor, implementation: str) -> Callable[[], object]:
    """The compiled kernel of a dense net; batches keep its Jacobians within memory."""
    import jax
    import jax.numpy as jnp

    from regimes.tangent.neural_tangents import library

    nt = library()
    weights = [
        (layer.weight.detach().numpy(), layer.bias.detach().numpy()) for layer in model if len([*layer.parameters()])
    ]
    params = [(jnp.asarray(w), jnp.asarray(b)) for w, b in weights]

    def f(values: list, inputs: jax.Array) -> jax.Array:
        for place, (weight, bias) in enumerate(values):
            inputs = inputs @ weight.T + bias
            inputs = jax.nn.relu(inputs) if place < len(values) - 1 else inputs
        return inputs

    kernel = nt.empirical_ntk_fn(
        f, trace_axes=(), vmap_axes=0, implementation=getattr(nt.NtkImplementation, implementation)
    )
    inputs, size = jnp.asarray(x.numpy()), _blocks(model, len(x))
    batch = max(part for part in range(1, size + 1) if len(x) % part == 0)
    compiled = jax.jit(lambda one, other: kernel(one, other, params))

    def run() -> object:
        rows = [
            np.concatenate([np.asarray(compiled(inputs[i : i + batch], inputs[j : j + batch])) for j in starts], 1)
            for i in starts
        ]
        return torch.from_numpy(np.concatenate(rows))

    starts = range(0, len(x), batch)
    return run


def row_by_row(model: nn.Module, x: Tensor) -> Tensor:
    operator.coverage = lambda model, params, two, k: Coverage((), (), tuple(params))
    try:
        return ntk(model, x, memory=MEMORY)
    finally:
        operator.coverage = coverage


def ways(name: str, samples: int) -> dict[str, Way]:
    model, x = made(name, samples)
    found: dict[str, Way] = {
        "regimes": lambda: ntk(model, x, memory=MEMORY),
        "torch.func, Jacobian contraction": lambda: jacobian_contraction(model, x),
        "torch.func, NTK-vector products": lambda: vector_products(model, x),
    }
    if name == "mlp":
        for implementation in ("JACOBIAN_CONTRACTION", "NTK_VECTOR_PRODUCTS"):
            try:
                found[f"neural-tangents, {implementation}"] = neural_tangents(model, x, implementation)
            except ImportError as missing:
                print(f"neural-tangents left out: {missing}")
                break
    if samples <= RIVALS_AT_MOST:
        found["regimes, row by row"] = lambda: row_by_row(model, x)
    return found


def endless(work: Way) -> Iterator[object]:
    while True:
        yield work()


def agree(name: str) -> None:
    """Largest difference of each way from float64, relative to the largest entry, on a few samples."""
    model, x = made(name, 3)
    exact = ntk(model.double(), x.double())
    for way, work in ways(name, 3).items():
        kernel = work()
        assert isinstance(kernel, Tensor)
        print(f"  {way}: differs by {float((kernel.double() - exact).abs().max() / exact.abs().max()):.1e}", flush=True)


def peak(name: str, way: str, samples: int) -> int:
    """MiB that one way takes in a process of its own, above what was there before."""
    command = [
        sys.executable,
        "-m",
        "benchmarks.empirical_ntk",
        "--net",
        name,
        "--samples",
        str(samples),
        "--alone",
        way,
    ]
    return int(subprocess.run(command, check=True, capture_output=True, text=True, env=os.environ).stdout.split()[-1])


def alone(name: str, way: str, samples: int) -> None:
    """Print the MiB of resident memory that the way adds (Linux)."""

    def resident(entry: str) -> int:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith(entry)) // 1024

    work = ways(name, samples)[way]
    before = resident("VmRSS")
    work()
    print(resident("VmHWM") - before)


def measure(name: str, samples: int, repeats: int, peaks: bool) -> None:
    model = NETS[name][0]()
    print(f"{name}: n = {samples}, {OUTPUTS} outputs, {sum(p.numel() for p in model.parameters())} parameters")
    agree(name)
    times = interleave(
        {way: endless(work) for way, work in ways(name, samples).items()}, "cpu", repeats=repeats, steps=1, warm_up=1
    )
    for way, taken in times.items():
        memory = f", peak {peak(name, way, samples)} MiB" if peaks else ""
        print(f"  {way}: {spread([each.wall for each in taken])} s, "
              f"processor {spread([each.process for each in taken])} s{memory}", flush=True)  # fmt: skip
    rivals = [way for way in times if not way.startswith("regimes")]
    best = min(rivals, key=lambda way: spread([each.wall for each in times[way]]).median)
    for clock, words in (("process", "processor time"), ("wall", "wall time")):
        print(f"{name}, n = {samples}, ratio in {words}: {ratio(times[best], times['regimes'], clock)} against {best}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--net", choices=NETS, action="append")
    parser.add_argument("--samples", type=int, default=200)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--short", action="store_true")
    parser.add_argument("--alone", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.alone:
        alone(given.net[0], given.alone, given.samples)
        return
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads")
    for name in given.net or ("mlp", "resnet9"):
        measure(name, 12 if given.short else given.samples, given.repeats, not given.short)


if __name__ == "__main__":
    main()
