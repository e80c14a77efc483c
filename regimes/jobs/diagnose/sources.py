"""From files to two states of one network and its samples. Checkpoints run no code; a factory is code the user names.

What a file may be: a checkpoint of `train` or `regimes.fit`, a state dict that torch.load takes with weights_only=True
(also one under the key "state_dict" or "model"), or a safetensors file.
"""

import importlib
import importlib.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from regimes.conventions import generator
from regimes.errors import UserError, one_line, out_of_memory
from regimes.jobs.diagnose.config import SAMPLES, STATES, Config
from regimes.jobs.lazy_vs_meanfield.states import PROGRAM as MAIN_JOB
from regimes.jobs.lazy_vs_meanfield.states import read_states
from regimes.lab.hashed import File, hashed
from regimes.lab.safetensors import SUFFIX, read_safetensors
from regimes.lab.tensor_files import read_tensors
from regimes.models.weights import put_weights
from regimes.streams import DiagnoseJob
from regimes.training.checkpoint import FIT, INITIAL, PROGRAM, Checkpoint, checkpoint_in, model_of
from regimes.training.first_weights import first_weights
from regimes.training.loading import samples_in

Weights = dict[str, Tensor]


class Case(NamedTuple):
    """Two states of a network, samples it was trained on (`of` in all), others, and what to know of them."""

    start: nn.Module
    end: nn.Module
    x: Tensor
    y: Tensor
    held_out: Tensor | None
    of: int
    decay: bool
    title: str
    notes: list[str]


def with_found(config: Config) -> Config:
    """The settings with the hashes of the files that they do not name themselves: initial.pt, a factory's code.

    Of a factory the one file that holds it counts, and not what that imports.
    """
    first, code = Path(config.checkpoint.path).parent / INITIAL, list[File]()
    if config.factory is not None:
        place, _ = _parts(config.factory)
        own = place if place.endswith(".py") else getattr(_module(place, config.factory), "__file__", None)
        code = [hashed(Path(own), "give --factory module:function or file.py:function", of_train=False)] if own else []
    initial = [hashed(first)] if not config.against and first.is_file() else []
    return config.model_copy(update={"initial": initial, "factory_code": code})


def open_case(config: Config, rows: int) -> Case:
    """The case of the settings; rows: samples × outputs up to which all training samples are taken.

    Every mistake of the user is a UserError.
    """
    path = Path(config.checkpoint.path)
    content = _content(path, STATES)
    if isinstance(content, dict) and content.get("program") == MAIN_JOB:
        return _of_main_job(config, path, content)
    checkpoint = checkpoint_in(path, content) if _is_checkpoint(content) else None
    if config.factory is None:
        if checkpoint is None or checkpoint.program != PROGRAM:
            what = "is of regimes.fit, whose network is not in it" if checkpoint else "holds weights and no network"
            raise UserError(f"{path} {what}: pass --factory module:function, which makes the network")
        return _of_train(config, path, checkpoint, rows)
    return _of_factory(config, path, content, checkpoint)


def _of_main_job(config: Config, path: Path, content: dict[str, Any]) -> Case:
    if config.against or config.samples or config.factory:
        raise UserError(f"{path} holds a net before and after training, with its samples: give it alone")
    found, where = read_states(content, str(path)), torch.device(config.device)
    start, end = found.start.to(where), found.end.to(where)
    x, y, others = (part.to(where) for part in (found.x, found.y, found.x_test[: config.held_out]))
    return Case(start, end, x, y, others, len(y), False, found.title, [f"Both states are in {path}."])


def _of_train(config: Config, path: Path, checkpoint: Checkpoint, rows: int) -> Case:
    if config.samples:
        raise UserError(f"{path} is of `train`, which has its own samples: leave --samples out")
    if not config.against:
        weights, words = first_weights(path, checkpoint, data_dir=config.data_dir, device=config.device)
    else:
        weights, words = _weights(Path(config.against[0].path)), f"compared with {config.against[0].path}"
    start = model_of(checkpoint._replace(state={**checkpoint.state, "model": weights}))
    samples = samples_in(checkpoint, config.data_dir)
    assert samples is not None
    stored, order = samples.stored, generator(config.seed, DiagnoseJob.CHOICE)
    there = len(stored.train.labels)
    some = torch.arange(there)
    if there * checkpoint.classes > rows:
        some = torch.randperm(there, generator=order)[: config.points]
    tests = stored.test
    others = torch.randperm(len(tests.labels), generator=order)[: config.held_out]
    notes = [_sentence(words)]
    if checkpoint.config.get("augment"):
        notes.append("The training augmented its samples; they are measured as they are.")
    if checkpoint.config.get("lap"):
        notes.append("Trained by least action; the risk here is the cross-entropy alone.")
    if checkpoint.config.get("module_wise"):
        notes.append("Trained module-wise; the tangent model is that of the whole network, trained end to end.")
    where = torch.device(config.device)
    return Case(
        start.to(where),
        model_of(checkpoint).to(where),
        stored.normalise(stored.train.x[some]).to(where),
        stored.train.labels[some].to(where),
        stored.normalise(tests.x[others]).to(where),
        there,
        bool(checkpoint.config.get("weight_decay", 0)),
        _title(checkpoint),
        notes,
    )


def _sentence(words: str) -> str:
    return f"{words[0].upper()}{words[1:]}."


def _title(checkpoint: Checkpoint) -> str:
    config = checkpoint.config
    action = ", least action" if config.get("lap") else ""
    return f"{config['arch']} on {config['dataset']}{action}, seed {config['seed']}"


def _of_factory(config: Config, path: Path, content: Any, checkpoint: Checkpoint | None) -> Case:
    if not config.samples:
        raise UserError(f"{path} says nothing of its samples: pass --samples FILE, {SAMPLES.removeprefix('give ')}")
    if config.against:
        before, words = _weights(Path(config.against[0].path)), f"compared with {config.against[0].path}"
    elif checkpoint is not None and checkpoint.program == FIT:
        before, words = first_weights(path, checkpoint)
    else:
        raise UserError(
            f"{path} says nothing of where its training began: pass --against INIT, a file of the same kind"
        )
    start, end = (_filled(config, weights) for weights in (before, _of(content, path)))
    parts = _content(Path(config.samples[0].path), SAMPLES)
    if not isinstance(parts, dict) or not all(isinstance(parts.get(name), Tensor) for name in ("x", "y")):
        raise UserError(f"{config.samples[0].path} has no tensors x and y; {SAMPLES}")
    x, y, held_out = (parts.get(name) for name in ("x", "y", "held_out"))
    where = torch.device(config.device)
    x, y, held_out = (each if each is None else each.to(where) for each in (x, y, held_out))
    assert x is not None
    assert y is not None
    title = f"{path} ({type(end).__name__})"
    return Case(start.to(where), end.to(where), x, y, held_out, len(y), True, title, [_sentence(words)])


def _filled(config: Config, weights: Weights) -> nn.Module:
    assert config.factory is not None
    model = made_by(config.factory)
    present = set(model.state_dict())
    for prefix in ("model.", "module.", "_orig_mod."):
        if not set(weights) & present and all(name.startswith(prefix) for name in weights):
            weights = {name.removeprefix(prefix): value for name, value in weights.items()}
    put_weights(model, weights, config.factory)
    return model.eval()


def made_by(factory: str) -> nn.Module:
    """The network that "module:function" or "file.py:function" gives; its code is run, as the user has named it."""
    place, name = _parts(factory)
    function = getattr(_module(place, factory), name, None)
    if not callable(function):
        raise UserError(f"--factory {factory}: {place} has no function {name}")
    try:
        model = function()
    except (Exception, SystemExit) as error:
        if out_of_memory(error):
            raise
        raise UserError(f"--factory {factory} ends in {type(error).__name__}: {one_line(error)}") from error
    if not isinstance(model, nn.Module):
        raise UserError(f"--factory {factory} needs to return a torch module; it gave {type(model).__name__}")
    return model


def _parts(factory: str) -> tuple[str, str]:
    place, _, name = factory.rpartition(":")
    if not place or not name.isidentifier():
        raise UserError(f"--factory needs module:function or file.py:function; got {factory!r}")
    return place, name


def _module(place: str, factory: str) -> ModuleType:
    try:
        if not place.endswith(".py"):
            if str(Path.cwd()) not in sys.path:
                sys.path.insert(0, str(Path.cwd()))
            return importlib.import_module(place)
        spec = importlib.util.spec_from_file_location(f"factory_{Path(place).stem}", place)  # no name of another
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        with _at_home(Path(place), module):
            spec.loader.exec_module(module)
        return module
    except (Exception, SystemExit) as error:
        if out_of_memory(error):
            raise
        raise UserError(f"--factory {factory} cannot be imported: {one_line(error)}") from error


@contextmanager
def _at_home(place: Path, module: ModuleType) -> Iterator[None]:
    """While a file is imported it finds its neighbours, and is found itself by its name, as dataclasses need it."""
    home = str(place.resolve().parent)
    sys.modules[module.__name__] = module
    sys.path.insert(0, home)
    try:
        yield
    finally:
        if home in sys.path:
            sys.path.remove(home)


def _content(path: Path, advice: str) -> Any:
    return read_safetensors(path) if path.suffix == SUFFIX else read_tensors(path, advice)


def _is_checkpoint(content: Any) -> bool:
    return isinstance(content, dict) and content.get("program") in (PROGRAM, FIT)


def _weights(path: Path) -> Weights:
    content = _content(path, STATES)
    return checkpoint_in(path, content).state["model"] if _is_checkpoint(content) else _of(content, path)


def _of(content: Any, path: Path) -> Weights:
    if _is_checkpoint(content):
        content = content["state"]["model"]
    for key in ("state_dict", "model", "model_state_dict"):
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    if not isinstance(content, dict) or not content or not all(isinstance(each, Tensor) for each in content.values()):
        raise UserError(f"{path} holds no weights by name; {STATES}")
    return content
