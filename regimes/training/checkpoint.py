"""Checkpoints: tensors and plain values in one file, whole at any moment, read without running any code."""

import io
import pickle
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from pydantic import ValidationError
from torch import Tensor

from regimes.data import images
from regimes.data.classification import Classification, classification
from regimes.errors import UserError, users_choice
from regimes.lab.archives import damage
from regimes.lab.files import write_whole
from regimes.models.build import build
from regimes.models.residual import ResidualNet
from regimes.models.timed import timed
from regimes.training.checkpoint_fields import misfit, misfit_shape
from regimes.training.config import TrainConfig
from regimes.training.network_size import refuse_too_large

PROGRAM, VERSION = "regimes train", 2
FIT = "regimes.fit"  # the program of a checkpoint whose model is the user's own
_ADVICE = "give a last.pt or best.pt that `train` has written"


class Checkpoint(NamedTuple):
    """All that a run goes on from: settings, `Training.state_dict()`, random state, figures so far; and the model's
    shape of one input and number of classes.

    run and data say which run of which folder has written it, and on which samples; program, whose settings these are.
    """

    config: dict[str, Any]
    state: dict[str, Any]
    rng: dict[str, Any]
    shape: tuple[int, ...]
    classes: int
    sums: dict[str, Any] = {}  # of the epoch that is under way
    rows: list[dict[str, Any]] = []  # one an epoch that is done
    best: dict[str, Any] = {}  # epoch and figures of the best epoch so far
    run: str = ""  # `identity.of_folder`
    data: str = ""  # `digest` of the samples
    start: float = 0.0  # risk of the first step
    program: str = PROGRAM
    version: int = VERSION


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write the file in one step, flushed to the disk: until then the old one stays."""
    content = _plain(checkpoint._asdict())
    buffer = io.BytesIO()
    torch.save(content, buffer)
    write_whole(path, buffer.getvalue())


def load_checkpoint(path: Path | str) -> Checkpoint:
    """A checkpoint on the CPU; every failure is one line that says what the file is and what to do."""
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist; {_ADVICE}")
    if path.is_dir():
        raise FileNotFoundError(f"{path} is a folder; {_ADVICE}, for example {path}/best.pt")
    with path.open("rb") as file:
        start = file.read(4)
    if not start:
        raise UserError(f"{path} is empty; {_ADVICE}")
    if start != b"PK\x03\x04":
        raise UserError(f"{path} is no checkpoint: it is not in torch's zip format; {_ADVICE}")
    if (wrong := damage(path)) is not None:
        raise UserError(f"{path} is truncated or damaged ({wrong}); copy it again, or {_ADVICE}")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise UserError(
            f"{path} asks for more than tensors and plain values, which could run code: it was not read. Check where "
            f"it comes from and {_ADVICE}"
        ) from None
    except (RuntimeError, OSError, EOFError, ValueError, LookupError, TypeError, AttributeError) as error:
        reason = " ".join(str(error).split())[:100]
        raise UserError(f"{path} is truncated or damaged ({reason}); copy it again, or {_ADVICE}") from None
    return _checked(path, content)


def _checked(path: Path, content: Any) -> Checkpoint:
    if not isinstance(content, dict) or content.get("program") not in (PROGRAM, FIT):
        tensors = isinstance(content, dict) and content and all(isinstance(x, Tensor) for x in content.values())
        what = "the weights of a model alone" if tensors else "of another program"
        raise UserError(f"{path} is {what}, not a checkpoint of `train`; {_ADVICE}")
    version = content.get("version")
    if not isinstance(version, int) or isinstance(version, bool) or not 1 <= version <= VERSION:
        raise UserError(f"{path} has format {version}, this regimes reads up to {VERSION}; read it with the newer one")
    later = {"run", "data", "start"} if version == 1 else set()
    lost = [name for name in Checkpoint._fields if name not in content and name not in later]
    if lost:
        raise UserError(f"{path} lacks parts of a checkpoint ({', '.join(lost)}); {_ADVICE}")
    found = Checkpoint(**{name: content[name] for name in Checkpoint._fields if name in content})
    wrong = misfit(found._asdict())
    try:
        dataset = None if wrong or found.program != PROGRAM else TrainConfig.model_validate(found.config).dataset
        wrong = wrong or misfit_shape(dataset, found.shape, found.classes)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        wrong = f"setting {'.'.join(map(str, first['loc']))}: {first['msg']}"
    if wrong:
        raise UserError(f"{path} lacks parts of a checkpoint, or they were altered: {wrong}; {_ADVICE}")
    return found._replace(shape=tuple(found.shape))


def model_of(checkpoint: Checkpoint) -> ResidualNet:
    """The trained network, in eval mode on the CPU; ValueError names the first weight that does not fit."""
    if checkpoint.program == FIT:
        raise ValueError(
            f"this checkpoint is one of regimes.fit: its model, {checkpoint.config.get('model')}, is not in it, only "
            "the weights. Make the model and pass it to regimes.load(RUN, model=...)."
        )
    model = network_of(checkpoint.config, checkpoint.shape, checkpoint.classes)
    put_weights(model, checkpoint.state["model"], checkpoint.config["arch"])
    return model.eval()


def network_of(config: TrainConfig | Mapping[str, Any], shape: tuple[int, ...], classes: int) -> ResidualNet:
    """The network of a run before its weights are drawn: an architecture, whose blocks have times if it is mean-field.

    ValueError where its blocks cannot be particles.
    """
    made = config if isinstance(config, TrainConfig) else TrainConfig.model_validate(dict(config))
    refuse_too_large(made.arch, made.arch_options, shape, classes)
    with users_choice():
        model = build(made.arch, shape, classes, **made.arch_options)
    if not made.mean_field:
        return model
    if len(model.segments) == 0:
        raise UserError(
            f"{made.arch} cannot be trained with --mean-field: it has no residual blocks, which are the particles. "
            "Pass another --arch, for example resnet20."
        )
    try:
        return timed(model, first_gap=made.tau_first_gap, sorting=made.tau_sort)
    except ValueError as error:
        raise UserError(f"{made.arch} cannot be trained with --mean-field: {error}") from None


def put_weights(model: torch.nn.Module, weights: Mapping[str, Tensor], arch: str) -> None:
    """Load weights into a model; ValueError names the architecture and the first mismatch."""
    own = model.state_dict()
    for name in dict.fromkeys([*own, *weights]):
        came, needed = weights.get(name), own.get(name)
        if needed is None or came is None or came.shape != needed.shape:
            needs, got = ("nothing" if x is None else f"shape {tuple(x.shape)}" for x in (needed, came))
            raise UserError(
                f"the weights do not fit {arch}: {name} needs {needs}, the checkpoint has {got}; "
                "use the architecture and options that it was trained with"
            )
        if came.is_complex() and not needed.is_complex():
            raise UserError(f"the weights do not fit {arch}: {name} is complex in the checkpoint, and real here")
    model.load_state_dict(weights)


def data_of(config: TrainConfig | Mapping[str, Any], *, data_dir: Path | str | None = None) -> Classification:
    """The data of a run: the same samples, parts and normalisation; data_dir where the files lie elsewhere now."""
    made = config if isinstance(config, TrainConfig) else TrainConfig.model_validate(dict(config))
    return classification(
        made.dataset,
        train_size=made.train_size,
        validation=made.validation,
        test_size=made.test_size,
        choose=images.balanced if made.balanced else images.uniform,
        seed=made.seed,
        data_dir=data_dir if data_dir is not None else made.data_dir,
    )


def rng_state() -> dict[str, Any]:
    """State of torch's global random generators."""
    return {"cpu": torch.get_rng_state(), "cuda": torch.cuda.get_rng_state() if torch.cuda.is_initialized() else None}


def set_rng_state(state: Mapping[str, Any]) -> None:
    """Put the same back."""
    torch.set_rng_state(state["cpu"])
    if state["cuda"] is not None and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])


def _plain(value: Any) -> Any:
    """Containers as dict and list, tensors detached; a schedule's milestones (a Counter) come from the settings."""
    if isinstance(value, Tensor):
        return value.detach()
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items() if not isinstance(item, Counter)}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if value is None or isinstance(value, str | bool | int | float):
        return value
    raise TypeError(f"a checkpoint holds tensors and plain values; got {type(value).__name__}.")
