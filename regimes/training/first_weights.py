"""The weights that a run of `train` started from: kept beside it, or drawn again and checked by the first step."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from regimes.errors import UserError
from regimes.lab.checkpoint_run import LENGTH
from regimes.machine import autocast
from regimes.training.assemble import assemble, prepared_for
from regimes.training.checkpoint import INITIAL, PROGRAM, Checkpoint, load_checkpoint
from regimes.training.config import TrainConfig
from regimes.training.loop import descend

SAME = 1e-3  # relative difference of the first risk; other orders of summation give less


def first_weights(
    path: Path, checkpoint: Checkpoint, *, data_dir: Path | None = None, device: str = "cpu"
) -> tuple[dict[str, Tensor], str]:
    """The initial weights of the run that wrote the checkpoint at `path`, and where they come from, in words.

    They lie beside it in initial.pt. An earlier version kept none: then they are drawn from seed and settings, and
    taken if the first step from them, on that device with the data of that folder (None: that of the run), has the risk
    that the run noted. UserError where that fails.
    """
    file = path.parent / INITIAL
    if file.exists():
        first = load_checkpoint(file)
        if _settings(first) != _settings(checkpoint) or (first.run, first.data) != (checkpoint.run, checkpoint.data):
            raise UserError(f"{file} is of another run than {path.name}; pass the right one with --against")
        return first.state["model"], f"the initial weights are those of {file}"
    if checkpoint.program != PROGRAM:
        raise UserError(f"{file} does not exist, so where this training began is not known; pass --against INIT")
    try:
        here = {"device": device, "compile": False, "cuda_graphs": False} | (
            {} if data_dir is None else {"data_dir": data_dir}
        )
        weights, risk = _drawn(TrainConfig.model_validate({**checkpoint.config, **here}))
    except FileNotFoundError as error:
        raise UserError(f"{file} does not exist, and its weights cannot be checked: {error}") from None
    if not math.isclose(risk, checkpoint.start, rel_tol=SAME):
        raise UserError(
            f"{file} does not exist, and the weights drawn from the settings do not give the first step of that run "
            f"(risk {risk:.6g}, noted {checkpoint.start:.6g}): pass its initial weights with --against INIT"
        )
    words = f"this run kept no {INITIAL}: its initial weights are drawn again, and give the risk of its first step"
    return weights, words


def _settings(checkpoint: Checkpoint) -> Mapping[str, Any]:
    return {name: value for name, value in checkpoint.config.items() if name not in LENGTH}


def _drawn(config: TrainConfig) -> tuple[dict[str, Tensor], float]:
    """Initial weights, and the risk of the first batch at them."""
    with prepared_for(config):
        setup = assemble(config)
        model = setup.training.model
        weights = {name: tensor.detach().clone().cpu() for name, tensor in model.state_dict().items()}
        step = next(descend(setup.training, setup.batches, epochs=1, autocast=autocast(config.device, config.bf16)))
        return weights, float(step.risk)
