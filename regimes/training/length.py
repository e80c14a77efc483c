"""A run that is asked to be longer or shorter than it was: it goes on where that is what an undisturbed one is."""

from pathlib import Path

from regimes.errors import UserError
from regimes.lab.runs import CONFIG, RunFolder
from regimes.lab.yaml_text import read_yaml
from regimes.training.checkpoint import load_checkpoint
from regimes.training.config import StepSettings
from regimes.training.identity import LENGTH

LAST, RESULT = "last.pt", "result.json"
WAY_OUT = "pass --out for another folder, or --fresh to train anew"


def open_run(path: Path, name: str, config: StepSettings, *, fresh: bool) -> RunFolder:
    """The folder of a run, or of several seeds, new or as it was left; `LENGTH` may differ from what it holds.

    name: "train" or "fit".

    ValueError where what was trained is not the beginning of the run that is asked for. Else the old result is gone.
    """
    folder = RunFolder.open(path, name, config, fresh=fresh, free=LENGTH)
    try:
        if read_yaml(path / CONFIG) != folder.config:
            for last in (path / LAST, *sorted(path.glob(f"seed*/{LAST}"))):
                if last.exists():
                    _refuse_another_beginning(last, config)
            (path / RESULT).unlink(missing_ok=True)
    except BaseException:
        folder.close()
        raise
    return folder


def _refuse_another_beginning(last: Path, config: StepSettings) -> None:
    held = load_checkpoint(last)
    rows, epoch, step = held.rows, int(held.state["epoch"]), int(held.state["step"])
    cut = len(rows) > epoch  # its last row is of an epoch that max_steps has ended early
    done = (rows[-1]["steps"] if rows else 0) + (0 if cut else step)
    if epoch + (step > 0) > config.epochs or done > (config.max_steps or done):
        asked = f"--epochs {config.epochs}" + (f" --max-steps {config.max_steps}" if config.max_steps else "")
        raise UserError(f"{last} has seen {done} steps, {epoch} whole epochs: more than {asked}; {WAY_OUT}")
    if config.schedule == "cosine" and config.epochs != held.config["epochs"]:
        raise UserError(
            f"{last} comes from a cosine over {held.config['epochs']} epochs: its learning rates are not those of "
            f"{config.epochs} epochs, and cannot be taken back; {WAY_OUT}"
        )
    if cut and done != config.max_steps:
        raise UserError(
            f"{last} was ended by max_steps within epoch {epoch + 1}, which is counted as it was: an undisturbed run "
            f"would not have counted it; {WAY_OUT}"
        )
