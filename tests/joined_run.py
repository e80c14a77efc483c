"""The command line as one of several processes, in float64; FAULT=RANK:STEP:SIGNAL strikes one of them."""

import os
import signal

import torch
from joined_training import in_float64

from regimes.cli import main
from regimes.training import loop, results, run


def strike(rank: str, step: str, kind: str) -> None:
    """Let process `rank` send itself a signal after so many steps."""
    see, count = loop.Guard.see, [0]

    def counting(self: loop.Guard, seen: loop.Step) -> None:
        see(self, seen)
        count[0] += 1
        if count[0] == int(step) and rank == os.environ["RANK"]:
            os.kill(os.getpid(), signal.Signals[kind])

    loop.Guard.see = counting


def without_extras() -> None:
    """Weights in float64, no figure, no flops (these are counted in float32)."""
    run.assemble = in_float64
    results._figure = lambda folder, rows: {}
    results.training_flops = lambda model, shape: 1.0
    results.matrix_rate = lambda device, bf16: 1.0


if __name__ == "__main__":
    torch.set_num_threads(1)
    without_extras()
    if "FAULT" in os.environ:
        strike(*os.environ["FAULT"].split(":"))
    main()
