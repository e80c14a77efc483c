"""What a least-action training step costs beside a plain one.

ResNet9 with 32 filters on random images of MNIST's size, batch 128, SGD with momentum; least action with λ updated each
step (level "batch"), in both forms. Each repeat takes a plain step and a step of each form in turns, in an order that
rotates, after warm-up; the ratio of a repeat is between neighbours in time, which a busy machine slows alike. The clock
is that of the process on a CPU (the seconds of all its threads), the wall's on a GPU, synchronised.

Run: python -m benchmarks.lap_overhead [cpu|cuda] [repeats], cpu and 15 unless given; OMP_NUM_THREADS sets the threads.
"""

import statistics
import sys
import time
from collections.abc import Callable, Iterator

import torch

from regimes.conventions import generator
from regimes.data.batches import Batches
from regimes.data.classification import Labelled
from regimes.models.build import build
from regimes.models.initialise import initialise, kaiming
from regimes.training.layout import channels_last
from regimes.training.loop import Training, descend
from regimes.training.objectives import LeastAction, Objective, Plain, divided, multiplied

BATCH, WARM_UP = 128, 2
STEPS = {"cpu": 1, "cuda": 20}  # a measurement: a step of a GPU is too short to be timed alone


def steps(objective: Objective, device: str) -> Iterator[object]:
    """Endless training steps."""
    x = torch.randint(0, 256, (8 * BATCH, 1, 28, 28), generator=generator(0), dtype=torch.uint8)
    data = Labelled(x, torch.randint(0, 10, (8 * BATCH,), generator=generator(1))).to(device)
    model = initialise(build("resnet9", (1, 28, 28), 10, filters=32), kaiming, generator=generator(2))
    model = channels_last(model.to(device))
    optimizer = torch.optim.SGD(model.parameters(), 0.01, momentum=0.9, weight_decay=1e-4, fused=True)
    training = Training(model, objective, optimizer)
    return descend(training, Batches(data, BATCH, normalise=lambda x: x.float() / 255), epochs=10**6)


def seconds(work: Callable[[], object], device: str) -> float:
    if device == "cuda":
        torch.cuda.synchronize()
    clock = time.perf_counter if device == "cuda" else time.process_time
    start = clock()
    work()
    if device == "cuda":
        torch.cuda.synchronize()
    return clock() - start


def main() -> None:
    device = sys.argv[1] if len(sys.argv) > 1 else "cpu"
    repeats = int(sys.argv[2]) if len(sys.argv) > 2 else 15
    torch.set_flush_denormal(True)
    runs = {
        "plain": steps(Plain(), device),
        "divided": steps(LeastAction(form=divided), device),
        "multiplied": steps(LeastAction(form=multiplied, multiplier=5.0, every=5), device),
    }

    def work(name: str) -> Callable[[], object]:
        return lambda: [next(runs[name]) for _ in range(STEPS[device])]

    for name in runs:
        for _ in range(WARM_UP):
            work(name)()
    times: dict[str, list[float]] = {name: [] for name in runs}
    order = list(runs)
    for _ in range(repeats):
        for name in order:
            times[name].append(seconds(work(name), device) / STEPS[device])
        order = [*order[1:], order[0]]
    print(f"resnet9, batch {BATCH}, {device}, {torch.get_num_threads()} thread(s), torch {torch.__version__}")
    plain = statistics.median(times["plain"])
    print(f"plain: {plain * 1e3:.1f} ms a step, {BATCH / plain:.0f} images/s")
    worst = 0.0
    for name in ("divided", "multiplied"):
        found = sorted(lap / base for lap, base in zip(times[name], times["plain"], strict=True))
        median = statistics.median(found)
        quarter = len(found) // 4
        spread = f"middle half {found[quarter]:.3f} to {found[-1 - quarter]:.3f}, in {repeats} repeats"
        step = statistics.median(times[name]) * 1e3
        print(f"{name}: {step:.1f} ms a step; ratio to the plain step: median {median:.3f}, {spread}")
        worst = max(worst, median)
    print("(ratio: time of a least-action step over that of a plain step, the slower form)")
    print(f"ratio: {worst:.3f}")


if __name__ == "__main__":
    main()
