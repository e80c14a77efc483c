"""A run that is asked to be longer or shorter than it was: it goes on where that is what an undisturbed one is."""

from pathlib import Path

from regimes.errors import UserError
from regimes.lab.checkpoint_run import refuse_other_samples
from regimes.training.checkpoint import OWN, load_checkpoint
from regimes.training.config import StepSettings
from regimes.training.metrics import early

WAY_OUT = "pass --out for another folder, or --fresh to train anew"


def refuse_another_beginning(last: Path, config: StepSettings, data: str | None) -> None:
    """UserError unless what a checkpoint holds is the beginning of the run that is asked for.

    data: digest of its samples, None where that is not known.
    """
    checkpoint = load_checkpoint(last, OWN)
    if data and checkpoint.data:  # files of the first format have none
        refuse_other_samples(last, checkpoint, data)
    rows, epoch, step = checkpoint.rows, int(checkpoint.state["epoch"]), int(checkpoint.state["step"])
    last_row = rows[-1] if rows else {"epoch": 0, "steps": 0}
    cut = bool(rows) and early(last_row, epoch, config.evaluate_every)  # its last row is none of a longer run
    done = last_row["steps"] + (0 if cut else int(checkpoint.sums.get("steps", step)))
    if epoch + (step > 0) > config.epochs or done > (config.max_steps or done):
        asked = f"--epochs {config.epochs}" + (f" --max-steps {config.max_steps}" if config.max_steps else "")
        raise UserError(f"{last} has seen {done} steps, {epoch} whole epochs: more than {asked}; {WAY_OUT}")
    if config.schedule == "cosine" and config.epochs != checkpoint.config["epochs"]:
        raise UserError(
            f"{last} comes from a cosine over {checkpoint.config['epochs']} epochs: its learning rates are not those "
            f"of {config.epochs} epochs, and cannot be taken back; {WAY_OUT}"
        )
    if cut and done != config.max_steps and not checkpoint.sums.get("samples"):
        raise UserError(
            f"{last} was ended by max_steps within epoch {epoch + 1} by an older version, which kept no sums of the "
            f"steps in it; {WAY_OUT}"
        )
