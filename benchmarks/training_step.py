"""Images a second of the trainer beside the same network in a plain torch loop.

Plain loop: a DataLoader (0 and 2 workers, the better one counts) with crop, flip and normalisation sample by sample,
contiguous images, zero_grad, backward, SGD with momentum, and loss.item() each step. Trainer: `loop.descend` on
`Batches` with what `regimes train` sets up around them: bytes on the device, augmentation by whole batches, channels
last, fused SGD, on Linux memory that is kept and in huge pages. Both in float32, from the same weights, on random
images of CIFAR's shape; one optimiser step on the same batch is compared first, in float64. Extra lines: least action,
torch.compile, bfloat16.

Every way runs in a process of its own, as the settings of the memory belong to a process; they take turns after a
warm-up, and the ratio of a turn is between neighbours in time. The clock is that of the process on a CPU (the mean of
its threads, without the loader's workers, which is to the plain loop's advantage), the wall's on a GPU, synchronised.

Run: python -m benchmarks.training_step [--device cuda] [--nets resnet9 resnext50] [--compile]
"""

import argparse
import multiprocessing
import os
import statistics
import time
from collections.abc import Iterator
from multiprocessing.connection import Connection
from typing import Any

import torch
from torch.nn.functional import cross_entropy, pad
from torch.utils.data import DataLoader, Dataset

from regimes.conventions import generator
from regimes.data.augment import compose, flip, random_crop
from regimes.data.batches import Batches
from regimes.data.classification import CONSTANTS, Labelled, Normalise
from regimes.models.build import build
from regimes.models.initialise import initialise, kaiming
from regimes.models.residual import ResidualNet
from regimes.training.layout import channels_last
from regimes.training.loop import Training, descend
from regimes.training.objectives import LeastAction, Plain
from regimes.training.runtime import autocast, prepared
from regimes.training.speed import matrix_rate, training_flops

SHAPE, CLASSES, RATE = (3, 32, 32), 10, 0.01
NETS: dict[str, tuple[str, dict[str, Any]]] = {  # those of configs/train
    "resnet9": ("resnet9", {"filters": 32}),
    "resnet9-64": ("resnet9", {"filters": 64}),
    "resnext50": ("resnext50", {}),
}
BATCH = {"cpu": {"resnet9": 128, "resnet9-64": 128, "resnext50": 8}, "cuda": dict.fromkeys(NETS, 128)}
STEPS = {"cpu": 1, "cuda": 50}  # a turn
WARM_UP = 8  # turns


def net(name: str) -> ResidualNet:
    arch, options = NETS[name]
    return initialise(build(arch, SHAPE, CLASSES, **options), kaiming, generator=generator(0))


def samples(count: int) -> Labelled:
    x = torch.randint(0, 256, (count, *SHAPE), generator=generator(1), dtype=torch.uint8)
    return Labelled(x, torch.randint(0, CLASSES, (count,), generator=generator(2)))


class Images(Dataset):
    """Samples one by one, cropped, flipped and normalised."""

    def __init__(self, data: Labelled, *, changed: bool = True) -> None:
        self.data, self.changed = data, changed
        self.mean, self.deviation = (torch.tensor(numbers).view(3, 1, 1) for numbers in CONSTANTS["cifar10"])

    def __len__(self) -> int:
        return len(self.data.labels)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        x = self.data.x[index]
        if self.changed:
            top, left, mirrored = torch.randint(0, 9, (3,)).tolist()
            x = pad(x, (4, 4, 4, 4))[:, top : top + 32, left : left + 32]
            x = x.flip(2) if mirrored % 2 else x
        return (x.to(self.mean.dtype) / 255 - self.mean) / self.deviation, self.data.labels[index]


def plain_loop(name: str, device: str, batch: int, workers: int, *, changed: bool = True) -> Iterator[torch.nn.Module]:
    """Endless steps as many write them."""
    model = net(name).to(device)
    optimizer = torch.optim.SGD(model.parameters(), RATE, momentum=0.9, weight_decay=1e-4)
    loader = DataLoader(
        Images(samples(64 * batch), changed=changed),
        batch,
        shuffle=changed,
        num_workers=workers,
        pin_memory=device == "cuda",
        persistent_workers=workers > 0,
    )
    model.train()
    while True:
        for x, labels in loader:
            x, labels = x.to(device, non_blocking=True), labels.to(device, non_blocking=True)
            optimizer.zero_grad()
            loss = cross_entropy(model(x), labels)
            loss.backward()
            optimizer.step()
            loss.item()
            yield model


def trainer(name: str, device: str, batch: int, way: str, *, changed: bool = True) -> Iterator[torch.nn.Module]:
    """Endless steps of the project's own loop."""
    model = channels_last(net(name).to(device))
    if "compiled" in way:
        model.compile()
    weights = list(model.parameters())
    optimizer = torch.optim.SGD(weights, RATE, momentum=0.9, weight_decay=1e-4, fused=True)
    training = Training(model, LeastAction() if "least action" in way else Plain(), optimizer)
    mean, deviation = (torch.tensor(numbers) for numbers in CONSTANTS["cifar10"])
    batches = Batches(
        samples(64 * batch).to(device),
        batch,
        normalise=Normalise(mean, deviation, 255).to(device),
        augment=compose(random_crop(4), flip()) if changed else None,
        shuffle=changed,
    )
    for step in descend(training, batches, epochs=10**6, autocast=autocast(device, "bfloat16" in way)):
        if step.number % 50 == 49 or device == "cpu":  # as `runtime.Guard` reads it
            step.value.item()
        yield model


def compare(name: str, device: str, batch: int = 4) -> float:
    """Distance of the weights after one step of both on the same batch in float64, relative to the step's length."""
    torch.set_default_dtype(torch.float64)
    try:
        before = torch.cat([weight.detach().flatten() for weight in net(name).parameters()])
        after = []
        for run in (plain_loop(name, device, batch, 0, changed=False), trainer(name, device, batch, "", changed=False)):
            after.append(torch.cat([weight.detach().cpu().flatten() for weight in next(run).parameters()]))
    finally:
        torch.set_default_dtype(torch.float32)
    return float((after[0] - after[1]).norm() / (after[0] - before).norm())


def serve(pipe: Connection, name: str, device: str, batch: int, way: str) -> None:
    """One way in a process of its own: takes the steps asked for, answers with their seconds."""
    if way.startswith("plain loop"):
        torch.set_flush_denormal(True)
        take_turns(pipe, plain_loop(name, device, batch, int(way.split()[2])), device)
        return
    with prepared(0, device):
        take_turns(pipe, trainer(name, device, batch, way), device)


def take_turns(pipe: Connection, run: Iterator[torch.nn.Module], device: str) -> None:
    clock = time.perf_counter if device == "cuda" else lambda: time.process_time() / torch.get_num_threads()
    while (steps := pipe.recv()) is not None:
        began = clock()
        for _ in range(steps):
            next(run)
        if device == "cuda":
            torch.cuda.synchronize()
        pipe.send((clock() - began) / steps)


def measure(name: str, device: str, batch: int, ways: list[str], repeats: int) -> dict[str, list[float]]:
    """Seconds a step of each way, one a repeat, in an order that rotates."""
    context = multiprocessing.get_context("spawn")
    pipes, processes = {}, []
    times: dict[str, list[float]] = {way: [] for way in ways}
    try:
        for way in ways:
            # A run asks torch for huge pages before its first tensor; the plain loop has torch's own default.
            os.environ["THP_MEM_ALLOC_ENABLE"] = "0" if way.startswith("plain loop") else "1"
            pipes[way], other = context.Pipe()
            processes.append(context.Process(target=serve, args=(other, name, device, batch, way)))
            processes[-1].start()
            other.close()
            for _ in range(WARM_UP):  # compilation, and the memory that a step needs
                pipes[way].send(STEPS[device])
                pipes[way].recv()
        order = list(ways)
        for _ in range(repeats):
            for way in order:
                pipes[way].send(STEPS[device])
                times[way].append(pipes[way].recv())
            order = [*order[1:], order[0]]
    finally:
        for pipe in pipes.values():
            pipe.send(None)
        for process in processes:
            process.join(10)
    return times


def report(name: str, device: str, batch: int, times: dict[str, list[float]]) -> dict[str, float]:
    """Lines on each way; its ratios to the better plain loop."""
    middle = {way: statistics.median(found) for way, found in times.items()}
    base = min((way for way in times if way.startswith("plain loop")), key=lambda way: middle[way])
    flops = training_flops(net(name), SHAPE)
    possible = {bf16: matrix_rate(device, bf16=bf16) for bf16 in (False, True)}
    ratios = {}
    for way, found in times.items():
        by_turn = sorted(one / other for one, other in zip(times[base], found, strict=True))
        ratios[way], quarter = statistics.median(by_turn), len(by_turn) // 4
        share = batch / middle[way] * flops / possible["bfloat16" in way]
        print(
            f"{name}, batch {batch}: {way}: {batch / middle[way]:.1f} images/s, {share:.0%} of the matrix rate, "
            f"{ratios[way]:.2f} times the {base} (middle half {by_turn[quarter]:.2f} to {by_turn[-1 - quarter]:.2f})",
            flush=True,
        )
    return ratios


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--nets", nargs="+", choices=list(NETS), default=["resnext50", "resnet9"])
    parser.add_argument("--repeats", type=int, default=11)
    parser.add_argument("--compile", action="store_true")
    given = parser.parse_args()
    device = given.device
    print(f"{device}, {torch.get_num_threads()} thread(s), torch {torch.__version__}; float32 unless said", flush=True)
    ways = ["plain loop, 0 workers", "plain loop, 2 workers", "trainer", "trainer, least action", "trainer, bfloat16"]
    ways += ["trainer, compiled"] if given.compile else []
    found: dict[str, dict[str, float]] = {}
    for name in given.nets:
        batch = BATCH[device][name]
        distance = compare(name, device)
        print(
            f"{name}: in float64 one step of both on the same batch differs by {distance:.1e} of its length", flush=True
        )
        if distance > 1e-6:
            raise SystemExit("the two do not take the same step: no speed to compare")
        found[name] = report(name, device, batch, measure(name, device, batch, ways, given.repeats))
    print("(ratio: images a second of the trainer over those of the better plain loop, float32, not compiled)")
    print(f"ratio: {found[given.nets[-1]]['trainer']:.3f}")


if __name__ == "__main__":
    main()
