"""Memory of module-wise training: the peak of one optimiser step, by the number of modules, over that end to end.

One network and batch, each case in a process of its own: the trainer's step (`training.loop.descend`) with SGD and
momentum on random images of 3 × 32 × 32, end to end or in K modules, without transport and with it. Before it are two
steps on batches of 2, so that momentum and all that is made once are there. The peak is above what the process holds
then; pages of its own for each large tensor. What a step keeps are the states and activations of one module at a time,
its gradients besides. To be expected are 1/K of the blocks' part, and the whole of what the first module has more than
others, encoder and images.

Run: python -m benchmarks.module_wise [--short] [--net resnet9]. Some minutes.
"""

import argparse
import os
import subprocess
import sys

import torch

from benchmarks.adjoints import MAPPED, peak_of
from regimes.conventions import generator
from regimes.data.batches import Batches
from regimes.data.classification import Labelled
from regimes.models.build import build
from regimes.models.module_wise import module_wise
from regimes.training.loop import Training, descend
from regimes.training.module_wise import MinimisingMovement
from regimes.training.objectives import LeastAction, Plain

SHAPE, CLASSES = (3, 32, 32), 10
NETS = {"resnet9": {"filters": 64}, "resnet56": {}}


def training(arch: str, modules: int, transport: bool) -> Training:
    """Of the network, in modules or, for none, end to end."""
    torch.manual_seed(0)
    model = build(arch, SHAPE, CLASSES, **NETS.get(arch, {}))
    objective = LeastAction(growth=0.0) if transport else Plain()
    if modules:
        model = module_wise(model, modules, SHAPE)
        objective = MinimisingMovement(step=0.5) if transport else Plain()
    return Training(model, objective, torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, fused=True))


def steps(one: Training, batch: int, count: int) -> None:
    """So many steps on random images."""
    x = torch.randn(count * batch, *SHAPE, generator=generator(0))
    data = Labelled(x, torch.arange(count * batch) % CLASSES)
    one.epoch = one.step = 0
    for _ in descend(one, Batches(data, batch), epochs=1):
        pass


def peak(arch: str, modules: int, transport: bool, batch: int) -> float:
    """MiB of one step."""
    one = training(arch, modules, transport)
    steps(one, 2, 2)
    return peak_of(lambda: steps(one, batch, 1))


def measured(arch: str, modules: int, transport: bool, batch: int) -> float:
    """The same in a process of its own."""
    given = [arch, str(modules), str(int(transport)), str(batch)]
    command = [sys.executable, "-m", "benchmarks.module_wise", "--peak", *given]
    return float(subprocess.run(command, capture_output=True, text=True, check=True, env=os.environ | MAPPED).stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--short", action="store_true", help="a batch of 16")
    parser.add_argument("--net", choices=NETS, help="one of the networks")
    parser.add_argument("--peak", nargs=4, metavar="OF", help="for the processes that measure")
    given = parser.parse_args()
    if given.peak:
        arch, modules, transport, batch = given.peak
        print(peak(arch, int(modules), transport == "1", int(batch)))
        return
    batch, least = 16 if given.short else 128, 1.0
    for arch in [given.net] if given.net else NETS:
        for transport in (False, True):
            whole = measured(arch, 0, transport, batch)
            words = [f"end to end {whole:.0f} MiB"]
            for modules in (1, 2, 4, 8):
                found = measured(arch, modules, transport, batch)
                words.append(f"{modules} module{'s' if modules > 1 else ''} {found:.0f} MiB ({found / whole:.2f})")
                least = min(least, found / whole)
            print(f"peak, {arch}, batch {batch}, transport {transport}: {', '.join(words)}", flush=True)
    print(f"ratio: {least:.3f}")


if __name__ == "__main__":
    main()
