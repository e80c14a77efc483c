"""The trainer's step beside the best plain loop: how much faster or slower, in float32 and in bfloat16.

The plain loop is what a good engineer writes for one network on one device: images as bytes on the device, padded once;
a batch is chosen and cropped by one indexing, mirrored and normalised in place into a batch that is allocated once,
with its channels last; the random numbers of an epoch drawn at once; fused SGD; autocast where the trainer has it;
nothing read from the device. The trainer is `loop.descend` on `Batches` with what `regimes train` sets up around them.

Both have the same network from the same weights and the same settings of memory (those of a run), and take turns in
one process. One step of both on the same batch is compared first, in float64. "least action" is the trainer's step
with the transport cost, beside the plain loop that has none; `resnet20-mean-field` has times τ in the trainer only, so
that its ratio is what they cost.

A ratio is the time of the plain loop over that of the trainer, turn by turn: above 1 the trainer is faster. On a CPU
the processor time decides (all threads of the process; what others do at the time hardly counts), and the wall time
stands beside it; on a card the wall time, synchronised.

Run: python -m benchmarks.training_step [--device cuda] [--short] [--nets resnet9 resnext50] [--compile]
"""

import argparse
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, pad

from benchmarks.timing import Seconds, Spread, clocks, interleave, positive, ratio, spread
from regimes.conventions import generator
from regimes.data.augment import compose, flip, random_crop
from regimes.data.batches import Batches
from regimes.data.classification import CONSTANTS, Labelled, Normalise
from regimes.machine import autocast, matrix_rate, prepared
from regimes.models.build import build
from regimes.models.costs import training_flops
from regimes.models.initialise import initialise, kaiming
from regimes.models.layout import channels_last
from regimes.models.residual import ResidualNet
from regimes.models.timed import timed
from regimes.training.loop import Training, descend
from regimes.training.objectives import LeastAction, Plain

SHAPE, CLASSES, RATE = (3, 32, 32), 10, 0.01
NETS: dict[str, tuple[str, dict[str, Any]]] = {  # those of configs/train
    "resnet9": ("resnet9", {"filters": 32}),
    "resnet9-64": ("resnet9", {"filters": 64}),
    "resnext50": ("resnext50", {}),
    "resnet20": ("preact_resnet", {"depth": 20}),
    "resnet20-mean-field": ("preact_resnet", {"depth": 20}),
}
BATCH = {
    "cpu": {"resnet9": 128, "resnet9-64": 64, "resnext50": 8, "resnet20": 128, "resnet20-mean-field": 128},
    "cuda": dict.fromkeys(NETS, 128),
}
STEPS = {"cpu": 1, "cuda": 50}  # a turn
WARM_UP = 2  # turns
PLAIN, TRAINER, LEAST_ACTION = "plain loop", "trainer", "trainer, least action"


def net(name: str, *, plain: bool = False) -> ResidualNet:
    """The network with weights of its own; `plain`: without the times of a mean-field one."""
    arch, options = NETS[name]
    made = initialise(build(arch, SHAPE, CLASSES, **options), kaiming, generator=generator(0))
    return timed(made) if name.endswith("mean-field") and not plain else made


def samples(count: int) -> Labelled:
    """Random images of CIFAR's shape, as bytes."""
    x = torch.randint(0, 256, (count, *SHAPE), generator=generator(1), dtype=torch.uint8)
    return Labelled(x, torch.randint(0, CLASSES, (count,), generator=generator(2)))


class PlainBatches:
    """Endless batches: bytes on the device, padded once; chosen, cropped, mirrored and normalised into one buffer."""

    def __init__(self, data: Labelled, size: int, device: str, *, changed: bool) -> None:
        self.data, self.size, self.device, self.changed = data.to(device), size, device, changed
        numbers = torch.tensor(CONSTANTS["cifar10"], dtype=torch.get_default_dtype(), device=device) * 255
        self.mean, self.factor = numbers[0].view(1, 3, 1, 1), 1 / numbers[1].view(1, 3, 1, 1)
        padded = pad(self.data.x, (4, 4, 4, 4))
        self.windows = padded.unfold(2, SHAPE[1], 1).unfold(3, SHAPE[2], 1)  # a view: every crop of every image
        empty = torch.empty(size, *SHAPE, dtype=self.mean.dtype, device=device)
        self.batch = empty.contiguous(memory_format=torch.channels_last)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        count, stream = len(self.data.labels), torch.Generator(self.device).manual_seed(0)
        while True:
            shift = torch.randint(0, 9, (2, count), generator=stream, device=self.device)
            mirrored = torch.rand(count, 1, 1, 1, generator=stream, device=self.device) < 0.5
            order = torch.randperm(count, generator=stream, device=self.device) if self.changed else None
            for first in range(0, count, self.size):
                part = slice(first, first + self.size)
                if order is None:
                    chosen, labels = self.data.x[part], self.data.labels[part]
                else:
                    which = order[part]
                    chosen = self.windows[which, :, shift[0, part], shift[1, part]]
                    chosen = torch.where(mirrored[part], chosen.flip(3), chosen)
                    labels = self.data.labels[which]
                self.batch.copy_(chosen).sub_(self.mean).mul_(self.factor)
                yield self.batch, labels


def plain_loop(name: str, device: str, batch: int, way: str, *, changed: bool = True) -> Iterator[torch.nn.Module]:
    """Endless steps, as fast as a good engineer writes them."""
    model: torch.nn.Module = net(name, plain=True).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    if "compiled" in way:
        model.compile()
    optimizer = torch.optim.SGD(model.parameters(), RATE, momentum=0.9, weight_decay=1e-4, fused=True)
    model.train()
    for x, labels in PlainBatches(samples(64 * batch), batch, device, changed=changed):
        with autocast(device, "bfloat16" in way):
            loss = cross_entropy(model(x), labels)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        del loss
        yield model


def trainer(name: str, device: str, batch: int, way: str, *, changed: bool = True) -> Iterator[torch.nn.Module]:
    """Endless steps of the project's own loop."""
    model = channels_last(net(name).to(device))
    if "compiled" in way:
        model.compile()
    optimizer = torch.optim.SGD(model.parameters(), RATE, momentum=0.9, weight_decay=1e-4, fused=True)
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
        if step.number % 50 == 49 or device == "cpu":  # as `loop.Guard` reads it
            step.value.item()
        del step
        yield model


def compare(name: str, device: str, batch: int = 4) -> float:
    """Distance of the weights after one step of both on the same batch in float64, relative to the step's length."""
    torch.set_default_dtype(torch.float64)
    try:
        before = weights(net(name))
        after = [weights(next(run(name, device, batch, "", changed=False))) for run in (plain_loop, trainer)]
    finally:
        torch.set_default_dtype(torch.float32)
    return float((after[0] - after[1]).norm() / (after[0] - before).norm())


def weights(model: torch.nn.Module) -> Tensor:
    """All weights in one vector, without times."""
    named = model.named_parameters()
    return torch.cat([weight.detach().cpu().flatten() for name, weight in named if not name.endswith("times")])


def measure(name: str, device: str, ways: list[str], repeats: int) -> dict[str, list[Seconds]]:
    """Seconds a step of each way, one a repeat."""
    batch = BATCH[device][name]
    runs = {way: (plain_loop if PLAIN in way else trainer)(name, device, batch, way) for way in ways}
    return interleave(runs, device, repeats=repeats, steps=STEPS[device], warm_up=WARM_UP)


def report(name: str, device: str, times: dict[str, list[Seconds]], rates: dict[bool, float]) -> dict[str, Spread]:
    """A line on each way; ratios to the plain loop of the same precision by the clock that decides."""
    batch, flops = BATCH[device][name], training_flops(net(name, plain=True), SHAPE)
    threads = 1 if device == "cuda" else torch.get_num_threads()
    found: dict[str, Spread] = {}
    for way, turns in times.items():
        base = times.get(way.replace(LEAST_ACTION, PLAIN).replace(TRAINER, PLAIN))
        half, clock = "bfloat16" in way, next(iter(clocks(device)))
        speed = batch / (spread([getattr(one, clock) for one in turns]).median / (threads if clock == "process" else 1))
        line = (
            f"{name}, batch {batch}: {way}: {speed:.1f} images/s, {speed * flops / rates[half]:.0%} of the matrix rate"
        )
        if base is not None and PLAIN not in way:
            by_clock = {words: ratio(base, turns, clock) for clock, words in clocks(device).items()}
            found[way] = next(iter(by_clock.values()))
            line += "; ratio " + ", ".join(f"{one} by {words}" for words, one in by_clock.items())
        print(line, flush=True)
    return found


def all_ways(precisions: list[str], compiled: bool) -> list[str]:
    """The plain loop, the trainer and least action in each precision, and compiled."""
    kinds = [PLAIN, TRAINER, LEAST_ACTION]
    ends = [
        f"{', bfloat16' * (one == 'bf16')}{more}" for more in ["", ", compiled"][: 1 + compiled] for one in precisions
    ]
    return [kind + end for end in ends for kind in kinds]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--nets", nargs="+", choices=list(NETS), default=list(NETS))
    parser.add_argument("--precisions", nargs="+", choices=("fp32", "bf16"), default=["fp32", "bf16"])
    parser.add_argument("--repeats", type=positive)
    parser.add_argument(
        "--short", action="store_true", help="smaller batches and three repeats: about a minute of a core"
    )
    parser.add_argument("--compile", action="store_true")
    given = parser.parse_args()
    device, repeats = given.device, given.repeats or (3 if given.short else 11)
    if given.short:
        BATCH["cpu"] = {name: max(2, size // 4) for name, size in BATCH["cpu"].items()}
    if device == "cuda":
        torch.backends.cudnn.benchmark = True  # for both sides
    print(f"{device}, {torch.get_num_threads()} thread(s), torch {torch.__version__}, {repeats} repeats", flush=True)
    found: dict[str, dict[str, Spread]] = {}
    with prepared(0, device):
        rates = {half: matrix_rate(device, bf16=half) for half in (False, True)}
        for name in given.nets:
            distance = compare(name, device)
            said = f"{name}: in float64 one step of both on the same batch differs by {distance:.1e} of its length"
            if not distance <= 1e-6:
                raise SystemExit(f"{said}: no speed to compare")
            print(said, flush=True)
            ways = all_ways(given.precisions, given.compile)
            found[name] = report(name, device, measure(name, device, ways, repeats), rates)
    every = {f"{name}, {way}": one for name, ways in found.items() for way, one in ways.items()}
    if not every:
        raise SystemExit("ratio: not measured, as no way ran beside its plain loop")
    last = min(every, key=lambda way: every[way])
    print(f"(the slowest of all cases, {last}: {every[last].median:.3f})")
    plain = {f"{name}, {way}": one for name, ways in found.items() for way, one in ways.items() if "action" not in way}
    judged = {way: one for way, one in plain.items() if "mean-field" not in way} or plain or every
    slowest = min(judged, key=lambda way: judged[way])
    print(
        "(ratio: time of the plain loop over that of the trainer, the slowest case without least action and trained "
        f"times where there is one, here {slowest}; above 1 is faster)"
    )
    print(f"ratio: {judged[slowest].median:.3f}")


if __name__ == "__main__":
    main()
