"""Checkpoints whose map is known, written by hand: no training."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from regimes.models.build import build
from regimes.models.residual import ResidualNet
from regimes.training.checkpoint import Checkpoint, save_checkpoint
from regimes.training.config import TrainConfig
from regimes.training.recipes import CLASSES, SHAPES

Edit = Callable[[ResidualNet], None]


def write(path: Path, dataset: str, arch: str, edit: Edit | None = None, **options: Any) -> Path:
    """A checkpoint with torch's first weights, or with what `edit` made of them."""
    config = TrainConfig(dataset=dataset, arch=arch, arch_options=options).model_dump(mode="json")
    torch.manual_seed(0)
    model = build(arch, SHAPES[dataset], CLASSES[dataset], **config["arch_options"])
    if edit is not None:
        with torch.no_grad():
            edit(model)
    state = {"model": model.state_dict(), "objective": {}, "optimizer": {}, "scheduler": None, "epoch": 1, "step": 0}
    rng = {"cpu": torch.get_rng_state(), "cuda": None}
    save_checkpoint(path, Checkpoint(config, state, rng, SHAPES[dataset], CLASSES[dataset]))
    return path


def _layers(model: ResidualNet) -> list[tuple[nn.Linear, nn.Linear]]:
    return [(block.residual[0], block.residual[2]) for block in model.segment(0).blocks]


def convex_gradients(model: ResidualNet) -> None:
    """Every block z + Wᵀ relu(W z + b): the gradient of ‖z‖²/2 + ‖relu(W z + b)‖²/2. One block is an OT map."""
    for first, second in _layers(model):
        second.weight.copy_(first.weight.T)
        second.bias.zero_()


def linear(matrix: Tensor) -> Edit:
    """One block z ↦ z + A z for the matrix A, with relu(z) − relu(−z) = z; hidden width 2 d."""

    def edit(model: ResidualNet) -> None:
        eye = torch.eye(len(matrix))
        (first, second), *_ = _layers(model)
        first.weight.copy_(torch.cat([eye, -eye]))
        second.weight.copy_(torch.cat([matrix, -matrix], dim=1))
        first.bias.zero_()
        second.bias.zero_()

    return edit


def turned(degrees: float) -> Tensor:
    """R − 1 for the rotation R of the plane: z + (R − 1) z is turned."""
    angle = math.radians(degrees)
    turn = torch.tensor([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    return turn - torch.eye(2)


SHEAR = torch.tensor([[0.0, 0.5], [0.0, 0.0]])
