"""Eight seeds of one small residual net trained as an ensemble against the same eight one after the other.

Two nets: the dense net of the circles (9 blocks, batch norm, batches of 10) and ResNet9 on digits (8 filters, batches
of 32), an epoch of SGD on the least-action objective. Both sides start from the same weights and see the same batches,
and take turns in one process; their outputs are compared first, in float64. The clock is that of the process on a CPU,
the wall's on a GPU; to make the nets takes both sides the same time and is not counted.
The last line is the smaller of the two ratios of times, one after the other over together.

Run: python -m benchmarks.ensemble_training [--device cuda]
"""

import argparse
import statistics
import time
from typing import Any

import torch

from regimes.conventions import generator
from regimes.data.batches import Batches
from regimes.data.classification import classification
from regimes.models.build import build
from regimes.models.initialise import initialise, orthogonal
from regimes.models.residual import ResidualNet
from regimes.training.ensemble import Ensemble, descend_together
from regimes.training.loop import Training, descend
from regimes.training.objectives import LeastAction

MEMBERS, REPEATS = 8, 7
RULE: dict[str, Any] = {"lr": 0.01, "momentum": 0.9, "fused": True}
NETS = {"dense": ("circles", {"batch_norm": True}, 10), "resnet9": ("digits", {"filters": 8}, 32)}


class Case:
    """One net, its data for each seed, and the two ways to train it."""

    def __init__(self, arch: str, device: str, dtype: torch.dtype) -> None:
        dataset, self.options, size = NETS[arch]
        self.arch, self.device, self.dtype = arch, device, dtype
        data = [classification(dataset, seed=seed).to(device) for seed in range(MEMBERS)]
        self.shape, self.classes = data[0].shape, data[0].classes
        self.batches = []
        for seed, own in enumerate(data):
            made = Batches(own.train, size, seed=seed, normalise=own.normalise)
            made.normalise = lambda x, inner=own.normalise: inner(x).to(dtype)
            self.batches.append(made)

    def net(self, seed: int) -> ResidualNet:
        made = build(self.arch, self.shape, self.classes, **self.options).to(self.dtype)
        return initialise(made, orthogonal, 0.1, generator=generator(seed)).to(self.device)

    def nets(self) -> list[ResidualNet]:
        return [self.net(seed) for seed in range(MEMBERS)]

    def singly(self, nets: list[ResidualNet]) -> list[ResidualNet]:
        for seed, net in enumerate(nets):
            training = Training(net, LeastAction(), torch.optim.SGD(net.parameters(), **RULE))
            for _ in descend(training, self.batches[seed], epochs=1):
                pass
        return nets

    def together(self, nets: list[ResidualNet]) -> list[torch.nn.Module]:
        ensemble = Ensemble(nets)
        optimizer = torch.optim.SGD(ensemble.parameters(), **RULE)
        for _ in descend_together(ensemble, LeastAction(), optimizer, self.batches, epochs=1):
            pass
        return [ensemble.member(seed) for seed in range(MEMBERS)]


def compare(arch: str, device: str) -> list[float]:
    """Ratio of the times, one a repeat."""
    exact = Case(arch, device, torch.float64)
    for seed, (one, other) in enumerate(zip(exact.singly(exact.nets()), exact.together(exact.nets()), strict=True)):
        x = next(exact.batches[seed].epoch(0))[0]
        torch.testing.assert_close(one.eval()(x), other.eval()(x), rtol=1e-5, atol=1e-5)
    case = Case(arch, device, torch.float32)
    clock = time.process_time if device == "cpu" else time.perf_counter
    work = {"one after the other": case.singly, "together": case.together}
    times: dict[str, list[float]] = {name: [] for name in work}
    for repeat in range(REPEATS + 1):
        for name, train in work.items():
            nets = case.nets()
            began = clock()
            train(nets)
            if device != "cpu":
                torch.cuda.synchronize()
            if repeat:  # the first is the warm-up
                times[name].append(clock() - began)
    return [one / other for one, other in zip(*times.values(), strict=True)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    device = parser.parse_args().device
    least = float("inf")
    for arch in NETS:
        ratios = compare(arch, device)
        middle = statistics.median(ratios)
        least = min(least, middle)
        print(
            f"{arch}: {MEMBERS} members, {middle:.2f} times as fast together ({min(ratios):.2f} to {max(ratios):.2f})"
        )
    print(f"ratio: {least:.2f}")


if __name__ == "__main__":
    main()
