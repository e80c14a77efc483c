"""One training a point: its scores after the epochs of the protocol, and at the risk to which all are trained."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from regimes.data.digest import digest
from regimes.experiments.least_action.low_data.arms import read_arm
from regimes.experiments.least_action.low_data.course import (
    Course,
    Data,
    accuracy,
    fresh_batches,
    fresh_model,
    refresh,
    state,
)
from regimes.experiments.least_action.low_data.following import follow
from regimes.experiments.least_action.low_data.together import shared
from regimes.experiments.least_action.mnist_low_data.config import ENCODERS, Config
from regimes.experiments.least_action.mnist_low_data.encoder import trained_encoder
from regimes.lab.config import dump
from regimes.models.residual import ResidualNet
from regimes.modules.modes import buffers_restored, with_running_statistics
from regimes.training.assemble import make_objective, make_optimiser, make_schedule, prepared_for
from regimes.training.loop import Training
from regimes.training.metrics import multiplier


class Ends:
    """What is seen of one net: its largest accuracy on the way, its scores after `epochs` and at equal risk."""

    def __init__(self, own: Data, config: Config) -> None:
        self.own, self.config = own, config
        self.best = (-1.0, 0)  # accuracy on the first half, and after how many epochs
        self.risk, self.samples = torch.zeros((), dtype=torch.float64), 0  # of this epoch
        self.fixed: dict[str, Any] = {}
        self.equal: dict[str, Any] = {}
        self.ended = False

    @property
    def done(self) -> bool:
        """Whether both ends are behind it, or the second is given up."""
        return self.ended

    def stepped(self, risk: Tensor, samples: int) -> None:
        """Sum up the risk of this epoch."""
        self.risk, self.samples = self.risk.to(risk.device) + risk.detach().double() * samples, self.samples + samples

    def epoch_ended(self, net: Training) -> None:
        """A look, and the scores of an end where it is reached."""
        config, own, epoch = self.config, self.own, net.epoch
        risk = float(self.risk) / self.samples
        self.risk, self.samples = torch.zeros((), dtype=torch.float64), 0
        since = epoch - config.first_look
        if epoch <= config.epochs and (epoch == config.epochs or (since >= 0 and since % config.look_every == 0)):
            found = accuracy(net.model, own.first, own.parts.normalise, config.look_precision)
            self.best = max(self.best, (found, epoch), key=lambda one: one[0])
        if epoch == config.epochs:
            self.fixed = scores(net.model, own) | {"multiplier": multiplier(net) or 1.0}
        if not self.equal and risk <= config.equal_risk:
            ended = self.fixed if epoch == config.epochs else scores(net.model, own)
            self.equal = {f"equal_{name}": value for name, value in ended.items()} | {"equal_epoch": epoch}
        given_up = epoch >= config.most_epochs or config.equal_risk == 0 or not math.isfinite(risk)
        self.ended = epoch >= config.epochs and (bool(self.equal) or given_up)

    def row(self) -> dict[str, Any]:
        """All numbers of the run; what was not reached is not known."""
        paper, epoch = self.best
        equal = {f"equal_{name}": None for name in (*SCORES, "train_risk", "transport")} | {"equal_epoch": None}
        return {"paper": paper, "paper_epoch": epoch, **self.fixed, **equal, **self.equal}

    def state_dict(self) -> dict[str, Any]:
        """What was seen so far."""
        return {name: getattr(self, name) for name in ("best", "risk", "samples", "fixed", "equal", "ended")}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from there."""
        self.best = (float(state["best"][0]), int(state["best"][1]))
        for name in ("risk", "samples", "fixed", "equal", "ended"):
            setattr(self, name, state[name])


SCORES = ("running", "validation", "refreshed", "validation_refreshed")


@torch.no_grad()
def scores(model: nn.Module, own: Data) -> dict[str, Any]:
    """Accuracies of the present weights on the second half and on the validation samples; state on the training set.

    running: with batch norm's running statistics. refreshed: with those of the training set at the present weights;
    not known where the net has none. fitted: accuracy on the training set, normalised by itself.
    """
    normalise, validation = own.parts.normalise, own.validation
    found: dict[str, Any] = {
        "running": accuracy(model, own.second, normalise),
        "validation": accuracy(model, validation, normalise),
        **state(model, own.parts.train, normalise),
        "fitted": None,
        "refreshed": None,
        "validation_refreshed": None,
    }
    if with_running_statistics(model):
        with buffers_restored(model):
            found["fitted"] = refresh(model, own.parts.train, normalise)
            found["refreshed"] = accuracy(model, own.second, normalise)
            found["validation_refreshed"] = accuracy(model, validation, normalise)
    return found


@torch.no_grad()
def start(model: ResidualNet, own: Data) -> dict[str, float | None]:
    """Before training: root mean square of the encoded features, and the largest mean variance that enters a norm."""
    x = own.parts.normalise(own.parts.train.x)
    found: dict[str, float | None] = {"feature_size": float(model.encoder(x).square().mean().sqrt())}
    with buffers_restored(model):
        refresh(model, own.parts.train, own.parts.normalise)
        variances = [float(norm.running_var.mean()) for norm in with_running_statistics(model)]  # type: ignore[union-attr]
    return found | {"norm_variance": max(variances) if variances else None}


def fresh_net(config: Config, course: Course, own: Data, seed: int, encoder: str, folder: Path | None) -> ResidualNet:
    """The net with the initial weights of a seed, the same for all arms; with the autoencoder's frozen encoder."""
    model = fresh_model(course, own, seed)
    if encoder == "autoencoder":
        model.encoder.load_state_dict(trained_encoder(config, folder).weights)
        model.encoder.requires_grad_(False)
    return model


def measure(config: Config, points: Sequence[dict[str, Any]], unfinished: Path | None = None) -> list[dict[str, Any]]:
    """One row a point: accuracies as shares, and the net at its start and at both ends.

    As many validation samples as training samples.
    """
    first, seeds = points[0], [point["seed"] for point in points]
    method, train = read_arm(first["arm"], config.training(first["norm"]))
    course = Course(train, ENCODERS[first["encoder"]])
    with prepared_for(train, seeds[0]):
        halves, size = (config.first_half, config.second_half), first["train_size"]
        drawn = shared(config.dataset, tuple(seeds), size, size, halves, config.data_dir)
        sets = [own.to(train.device) for own in drawn]
        folder = None if unfinished is None else unfinished.parent
        models = [
            fresh_net(config, course, own, seed, first["encoder"], folder)
            for own, seed in zip(sets, seeds, strict=True)
        ]
        nets = []
        for model in models:
            optimiser = make_optimiser(train, model)
            nets.append(Training(model, make_objective(train), optimiser, make_schedule(train, optimiser)))
        started = [start(model, own) for model, own in zip(models, sets, strict=True)]
        ends, batches = [Ends(own, config) for own in sets], fresh_batches(course, sets, seeds)
        samples = [digest((own.parts.train, own.validation, own.first, own.second)) for own in sets]
        whose = {"point": dict(first), "seeds": seeds, "settings": dump(config), "data": samples}
        most = max(config.epochs, config.most_epochs if config.equal_risk else 0)
        follow(train, nets, batches, ends, whose, unfinished, epochs=most)
    own_rate = {"method": method, "learning_rate": train.lr}
    error = trained_encoder(config, folder).error if first["encoder"] == "autoencoder" else None
    return [
        {**own_rate, **begun, **end.row(), "encoder_error": error} for begun, end in zip(started, ends, strict=True)
    ]
