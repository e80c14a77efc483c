"""Tangent kernel of a convolutional net: blocked ntk against a plain loop of one backward pass an output and sample.

Both on the same module and inputs in one process, one warm-up, best of five. The loop is what one writes first: all
gradients in one matrix, and its product with itself. Once for the full kernel (n, n, k, k), where that product
is most of the work for both, and once for its trace over the k outputs. The last line is the ratio of the times for
the trace, loop over ntk.

Run: python -m benchmarks.ntk [--device cuda]
"""

import argparse
from collections.abc import Callable

import torch
from torch import Tensor, nn

from benchmarks.timing import require_equal, turn
from regimes.tangent.kernel import ntk

SAMPLES, OUTPUTS, REPEATS = 64, 10, 5


def network() -> nn.Module:
    """About 40 000 parameters, 14x14 images to 10 outputs."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(288, 120),
        nn.ReLU(),
        nn.Linear(120, OUTPUTS),
    )


def gradients(model: nn.Module, x: Tensor) -> Tensor:
    """The gradients of all outputs of all samples as rows, by single backward passes."""
    params = list(model.parameters())
    rows = []
    for sample in x:
        for output in model(sample[None])[0]:
            grads = torch.autograd.grad(output, params, retain_graph=True)
            rows.append(torch.cat([grad.reshape(-1) for grad in grads]))
    return torch.stack(rows)


def loop(model: nn.Module, x: Tensor) -> Tensor:
    """The full kernel (n, n, k, k)."""
    matrix = gradients(model, x)
    return (matrix @ matrix.T).view(len(x), OUTPUTS, len(x), OUTPUTS).transpose(1, 2)


def loop_trace(model: nn.Module, x: Tensor) -> Tensor:
    """Its trace over the outputs."""
    matrix = gradients(model, x).view(len(x), -1)
    return matrix @ matrix.T


def seconds(run: Callable[[], Tensor], device: str) -> float:
    """Best of the repeats after one warm-up, by the clock on the wall."""
    run()
    return min(turn(run, device).wall for _ in range(REPEATS))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    device = parser.parse_args().device
    model, x = network().to(device), torch.randn(SAMPLES, 1, 14, 14).to(device)
    kernels = ((loop(model, x), ntk(model, x)), (loop_trace(model, x), ntk(model, x, outputs="trace")))
    parameters = sum(p.numel() for p in model.parameters())
    print(f"{SAMPLES} samples, {OUTPUTS} outputs, {parameters} parameters, {device}, {torch.get_num_threads()} threads")
    distance = max(float((slow - fast).abs().max() / slow.abs().max()) for slow, fast in kernels)
    require_equal("the kernel of ntk", distance, 1e-4)
    print(f"largest relative difference: {distance:.1e}")
    times = {
        "full, loop": seconds(lambda: loop(model, x), device),
        "full, ntk": seconds(lambda: ntk(model, x), device),
        "full, ntk in blocks of 16": seconds(lambda: ntk(model, x, block=16), device),
        "trace, loop": seconds(lambda: loop_trace(model, x), device),
        "trace, ntk": seconds(lambda: ntk(model, x, outputs="trace"), device),
        "trace, ntk in blocks of 16": seconds(lambda: ntk(model, x, outputs="trace", block=16), device),
    }
    for name, value in times.items():
        print(f"{name}: {value:.3f} s")
    print(f"ratio: {times['trace, loop'] / times['trace, ntk']:.1f}")


if __name__ == "__main__":
    main()
