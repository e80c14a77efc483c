"""What least-action training costs beside plain training in the same loop: each form, each level, MNIST's own recipe.

ResNet9 with 32 filters on random images of MNIST's size, batch 128, SGD with momentum, in float32 and in bfloat16.
A turn is 5 steps, in which a recipe with every=5 updates λ once; each repeat takes a turn of every way, in an order
that rotates, after warm-up; the ratio of a repeat is between neighbours in time, which a busy machine slows alike.
On a CPU the clock of the process decides (the seconds of all its threads), on a card that on the wall, synchronised.

The forms and the levels "batch" and "running" need no more than the transport cost. "batch_after" measures the batch a
second time, a forward pass at each update; "whole" all training samples, here 1,024 of them at every fifth step: what
that costs follows from their number.

Run: python -m benchmarks.lap_overhead [--device cuda] [--repeats 15] [--short]; OMP_NUM_THREADS sets the threads.
"""

import argparse
from collections.abc import Iterator

import torch

from benchmarks.timing import clocks, interleave, positive, ratio, spread
from regimes.conventions import generator
from regimes.data.batches import Batches
from regimes.data.classification import Labelled
from regimes.machine import autocast, prepared
from regimes.models.build import build
from regimes.models.initialise import initialise, kaiming
from regimes.models.layout import channels_last
from regimes.training.loop import Training, descend
from regimes.training.objectives import FORMS, LEVELS, LeastAction, Objective, Plain, divided, multiplied

BATCH, SAMPLES, WARM_UP, FILTERS = 128, 1024, 1, 32
STEPS = {"cpu": 5, "cuda": 20}  # a turn
PLAIN, MNIST = "plain", "MNIST's recipe (multiplied, batch_after, every=5)"


def objectives() -> dict[str, Objective]:
    """Plain training, each form, each level, and the recipe of MNIST."""
    forms = {f"form {name}": LeastAction(form=form) for name, form in FORMS.items()}
    levels = {
        f"level {level}, every={5 if level == 'whole' else 1}": LeastAction(
            form=divided, level=level, every=5 if level == "whole" else 1
        )
        for level in LEVELS
        if level != "batch"  # that of the forms above
    }
    mnist = LeastAction(form=multiplied, multiplier=5.0, every=5, level="batch_after")
    return {PLAIN: Plain(), **forms, **levels, MNIST: mnist}


def steps(objective: Objective, device: str, *, bf16: bool) -> Iterator[object]:
    """Endless training steps."""
    x = torch.randint(0, 256, (SAMPLES, 1, 28, 28), generator=generator(0), dtype=torch.uint8)
    data = Labelled(x, torch.randint(0, 10, (SAMPLES,), generator=generator(1))).to(device)
    model = initialise(build("resnet9", (1, 28, 28), 10, filters=FILTERS), kaiming, generator=generator(2))
    model = channels_last(model.to(device))
    optimizer = torch.optim.SGD(model.parameters(), 0.01, momentum=0.9, weight_decay=1e-4, fused=True)
    training, context = Training(model, objective, optimizer), autocast(device, bf16)
    batches = Batches(data, BATCH, normalise=lambda x: x.float() / 255)
    for _ in descend(training, batches, epochs=10**6, autocast=context):
        yield None


def measure(device: str, repeats: int, *, bf16: bool) -> float | None:
    """A line on each way; the largest ratio of those that take no second look at samples, None where none was found."""
    runs = {name: steps(made, device, bf16=bf16) for name, made in objectives().items()}
    times = interleave(runs, device, repeats=repeats, steps=STEPS[device], warm_up=WARM_UP)
    precision, clock = "bfloat16" if bf16 else "float32", next(iter(clocks(device)))
    if PLAIN not in times:
        return None
    plain = spread([getattr(one, clock) for one in times[PLAIN]]).median
    print(f"{precision}: plain: {plain * 1e3:.1f} ms a step, {BATCH / plain:.0f} images/s", flush=True)
    worst: float | None = None
    for name, found in times.items():
        if name == PLAIN:
            continue
        by_clock = {words: ratio(found, times[PLAIN], clock) for clock, words in clocks(device).items()}
        told = ", ".join(f"{one} by {words}" for words, one in by_clock.items())
        print(f"{precision}: {name}: {told}", flush=True)
        if "after" not in name and "whole" not in name:
            worst = max(worst or 0.0, next(iter(by_clock.values())).median)
    return worst


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("place", nargs="?", choices=("cpu", "cuda"), help="the same as --device")
    parser.add_argument("count", nargs="?", type=positive, help="the same as --repeats")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--repeats", type=positive)
    parser.add_argument("--short", action="store_true", help="three repeats: about two minutes of a core")
    given = parser.parse_args()
    device, repeats = given.place or given.device, given.count or given.repeats or (3 if given.short else 15)
    print(
        f"resnet9, batch {BATCH}, {device}, {torch.get_num_threads()} thread(s), torch {torch.__version__}", flush=True
    )
    with prepared(0, device):
        found = {half: measure(device, repeats, bf16=half) for half in (False, True)}
    known = [one for one in found.values() if one is not None]
    print("(ratio: time of a least-action step over that of a plain step, the slowest that looks at no sample twice)")
    left_out = "".join(
        f"; {'bfloat16' if half else 'float32'} was left out" for half, one in found.items() if one is None
    )
    print(f"ratio: {max(known):.3f}{left_out}" if known else "ratio: not measured")


if __name__ == "__main__":
    main()
