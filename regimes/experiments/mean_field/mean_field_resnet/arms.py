"""What is trained: arms by name, and one arm with one seed.

Beside `vanilla` and `mean_field` each arm changes one choice of the latter: `_epoch` (sorted after each epoch),
`_never`, `_tauF` (the learning rate of τ times F), `_nofirst` (the first gap is 1), `_clipC` (norm of τ's gradient at
most C), `_random` (τ starts uniform on [0, 1]), `_decayD` (weight decay on τ); `_lrR`: another learning rate of both.

The learning rate of θ on τ moves the weights of blocks by L² times what it would move a weight of the net. In 8 epochs
on 400 digits (resnet9, nine blocks in one stage, 5 seeds) they went from −87 to 72 with it, from −8 to 11 with a tenth,
from 0.11 to 1.89 with a hundredth, at validation errors of 5.3, 5.0 and 4.9 % (vanilla 5.0). So `train` takes 1/L² for
`tau_lr_factor` where nothing else is said, and so does the arm `_default` here; others have the factor 1, or their own.
"""

import re
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn

from regimes.data.batches import Batches
from regimes.errors import UserError
from regimes.lab.config import dump
from regimes.models.costs import EVALUATION_BATCH
from regimes.models.residual import ResidualNet
from regimes.models.timed import timed_segments
from regimes.threads import threads_for
from regimes.training.assemble import assemble, check, prepared_for
from regimes.training.config import TrainConfig
from regimes.training.loop import descend
from regimes.training.metrics import evaluate
from regimes.training.runtime import autocast
from regimes.training.unfinished import Unfinished

# Test error in percent, [Lu2020]: depth: (vanilla, quoted there from other papers; mean-field). CIFAR-10.
PUBLISHED = {
    20: (8.75, 8.19),
    32: (7.51, 7.15),
    44: (7.17, 6.91),
    56: (6.97, 6.72),
    110: (6.37, 6.10),
    164: (5.46, 5.19),
}
NEAR = (PUBLISHED[20][0] - PUBLISHED[20][1]) / 2  # points: a plain net that is off by more cannot test such a gain
VANILLA, MEAN_FIELD, DEFAULT = "vanilla", "mean_field", "mean_field_default"
METHODS: dict[str, dict[str, Any]] = {
    VANILLA: {"mean_field": False},
    MEAN_FIELD: {"mean_field": True, "tau_lr_factor": 1.0},
}
WORDS: dict[str, tuple[str, Any]] = {
    "epoch": ("tau_sort", "epoch"),
    "never": ("tau_sort", "never"),
    "nofirst": ("tau_first_gap", False),
    "random": ("tau_start", "random"),
    "default": ("tau_lr_factor", None),
}
NUMBERS = {"lr": "lr", "tau": "tau_lr_factor", "clip": "tau_clip", "decay": "tau_weight_decay"}
SPELLED = {
    "epoch": "sorted after each epoch",
    "never": "never sorted",
    "nofirst": "first gap fixed at 1",
    "random": "random start",
    "default": "rate of times over L²",
    "lr": "learning rate {}",
    "tau": "rate of times × {}",
    "clip": "gradient of times clipped at {}",
    "decay": "weight decay {} on times",
}
_NAME = re.compile(rf"(vanilla|mean_field)((?:_(?:{'|'.join(WORDS)}|(?:{'|'.join(NUMBERS)})\d*\.?\d+))*)")


def read_arm(name: str) -> dict[str, Any]:
    """The settings of an arm: "mean_field" has those of the run, "mean_field_epoch_tau0.1" besides some of its own."""
    found = _NAME.fullmatch(name)
    if found is None:
        raise UserError(
            f"an arm needs vanilla or mean_field, perhaps followed by {', '.join(WORDS)} or a number for one of "
            f"{', '.join(NUMBERS)}, as in mean_field_epoch_tau0.1; got {name!r}."
        )
    method, rest = found.groups()
    own: dict[str, Any] = {}
    for part in rest.split("_")[1:]:
        word = part.rstrip("0123456789.")
        setting, value = WORDS[word] if word in WORDS else (NUMBERS[word], float(part[len(word) :]))
        if setting in own or (method == "vanilla" and setting != "lr"):
            raise UserError(f"an arm needs each setting once, and vanilla has none of times; got {name!r}.")
        own[setting] = value
    return {**METHODS[method], **own}


def spelled(name: str) -> str:
    """Name of an arm for people: "trained times, sorted after each epoch" for mean_field_epoch."""
    method, *own = name.replace("mean_field", "mean-field").split("_")
    words = [SPELLED[word := part.rstrip("0123456789.")].format(part[len(word) :]) for part in own]
    return ", ".join([{"mean-field": "trained times"}.get(method, method), *words])


def run(settings: dict[str, Any], name: str, seed: int, pool: int, unfinished: Path | None = None) -> dict[str, Any]:
    """Train one arm as `train` does; errors in percent after the last epoch, and the weights of the blocks.

    All arms of a seed share samples, initial weights, batches and augmentation. Images are averaged over pool × pool
    pixels before the net sees them. Errors are measured in float32 whatever the training. unfinished: folder of what
    this training goes on from where it was stopped.
    """
    config = TrainConfig.model_validate({**settings, **read_arm(name), "seed": seed})
    check(config)
    context = autocast(config.device, config.bf16)
    with prepared_for(config):
        setup = assemble(config)
        model, data = cast(ResidualNet, setup.training.model), setup.data
        if pool > 1:
            model.encoder = nn.Sequential(nn.AvgPool2d(pool), cast(nn.Module, model.encoder))
        whose = {"train": dump(config), "pool": pool, "data": setup.origin.data}
        kept = Unfinished(unfinished, whose, [setup.training])
        kept.take_up()
        with threads_for(setup.work / pool**2), kept.watched(list) as stepped:
            for _ in descend(setup.training, setup.batches, epochs=config.epochs, autocast=context):
                stepped()
        row: dict[str, Any] = {"learning_rate": config.lr}
        for part, samples in (("test", data.test), ("validation", data.validation), ("train", data.train)):
            if samples is None:
                row |= {f"{part}_error": None, f"{part}_risk": None}
                continue
            held = Batches(samples, EVALUATION_BATCH, normalise=setup.batches.normalise, shuffle=False)
            found = evaluate(model, held)
            row |= {f"{part}_error": 100 * (1 - found.accuracy), f"{part}_risk": found.risk}
        return row | moved(model)


@torch.no_grad()
def moved(model: ResidualNet) -> dict[str, Any]:
    """Pairs of blocks that have changed places, and the weight of each particle in the order in which they act.

    A plain net counts as one of weights 1, as on the uniform grid.
    """
    segments = timed_segments(model)
    weights = [weight for segment in segments for weight in segment.weights().tolist()]
    if not segments:
        weights = [1.0 for index in range(len(model.segments)) for _ in model.segment(index).maps()]
    exchanges = sum(segment.exchanges() for segment in segments)
    return {"exchanges": exchanges, **{f"weight_{number}": weight for number, weight in enumerate(weights, 1)}}
