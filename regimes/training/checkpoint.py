"""Checkpoints: what a run goes on from, in memory and on the disk, and to which run a file belongs."""

import time
from collections.abc import Mapping, Sequence
from contextlib import nullcontext, suppress
from math import isfinite
from pathlib import Path
from typing import Any, NamedTuple

import torch
from pydantic import ValidationError
from torch import Tensor

from regimes.data import images
from regimes.data.classification import Classification, classification
from regimes.errors import UserError, shown, users_choice
from regimes.lab.checkpoint_fields import COLUMNS, misfit, misfit_shape
from regimes.lab.checkpoint_run import refuse_foreign
from regimes.lab.config import dump
from regimes.lab.files import link_whole
from regimes.lab.tensor_files import read_tensors, write_tensors
from regimes.machine import rng_state, set_rng_state
from regimes.models.build import build
from regimes.models.module_wise import ModuleWiseNet
from regimes.models.residual import ResidualNet
from regimes.models.size import refuse_too_large
from regimes.models.weights import put_weights, refuse_altered
from regimes.paths import home
from regimes.training.config import StepSettings, TrainConfig
from regimes.training.forms import formed
from regimes.training.loop import Training
from regimes.training.metrics import Sums, early
from regimes.training.recipes import CLASSES, SHAPES
from regimes.training.restored import misfits_told, refuse_misplaced, refuse_odd_sums

LAST, BEST, INITIAL, RESULT = "last.pt", "best.pt", "initial.pt", "result.json"
BEFORE = "before.pt"  # the best weights before the best ones: until LAST knows of these, or a longer run would not
PROGRAM, FIT, VERSION = "regimes train", "regimes.fit", 2  # FIT: the program where the model is the user's own
_Steps = tuple[int, int]
_GIVE = "give a last.pt or best.pt that `train` has written"
OWN = "put the run's own file back, or pass --fresh to train anew"  # what to do where a run goes on from its files


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
    run: str = ""  # `run_identity` of the folder
    data: str = ""  # `digest` of the samples
    start: float = 0.0  # risk of the first step
    tests: int = 0  # how often the test samples were measured
    program: str = PROGRAM
    version: int = VERSION


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write the file in one step, flushed to the disk: until then the old one stays."""
    write_tensors(path, checkpoint._asdict())


def load_checkpoint(path: Path | str, advice: str = _GIVE) -> Checkpoint:
    """A checkpoint on the CPU; every failure is one line that says what the file is, and the advice what to do."""
    return checkpoint_in(home(path), read_tensors(home(path), advice), advice)


def checkpoint_in(path: Path, content: Any, advice: str = _GIVE) -> Checkpoint:
    """The checkpoint that a file at this path holds, from its content."""
    if not isinstance(content, dict) or content.get("program") not in (PROGRAM, FIT):
        tensors = isinstance(content, dict) and content and all(isinstance(x, Tensor) for x in content.values())
        what = "the weights of a model alone" if tensors else "of another program"
        raise UserError(f"{path} is {what}, not a checkpoint of `train`; {advice}")
    version = content.get("version")
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        raise UserError(f"{path} was altered: its format is {shown(version)}, not a whole number from 1; {advice}")
    if version > VERSION:
        raise UserError(f"{path} has format {version}, this regimes reads up to {VERSION}; read it with the newer one")
    later = {"tests"} | ({"run", "data", "start"} if version == 1 else set())
    lost = [name for name in Checkpoint._fields if name not in content and name not in later]
    if lost:
        raise UserError(f"{path} lacks parts of a checkpoint ({', '.join(lost)}); {advice}")
    found = Checkpoint(**{name: content[name] for name in Checkpoint._fields if name in content})
    wrong = misfit(found._asdict(), COLUMNS if version == VERSION else ())
    try:
        dataset = None if wrong or found.program != PROGRAM else TrainConfig.model_validate(found.config).dataset
        known = None if dataset is None else (SHAPES[dataset], CLASSES[dataset])
        wrong = wrong or misfit_shape(found.shape, found.classes, known, dataset)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        wrong = f"setting {'.'.join(map(str, first['loc']))}: {first['msg']}"
    if wrong:
        raise UserError(f"{path} lacks parts of a checkpoint, or they were altered: {wrong}; {advice}")
    return found._replace(shape=tuple(found.shape))


class Origin(NamedTuple):
    """What is trained on what: the program whose settings it has, a title, the samples."""

    program: str
    title: str
    shape: tuple[int, ...]  # of one input
    classes: int  # 0 where targets are no class labels
    data: str  # `digest` of the samples


class RunState:
    """All that a run goes on from, in memory and on the disk: the training, and its numbers so far.

    rows: one an epoch; best: epoch and score of the best one; sums: of the epoch under way; start: risk of the first
    step; tests: how often the test samples were measured; steps: of an epoch, and of the run. Of several processes the
    first reads and writes.
    """

    def __init__(self, path: Path, config: StepSettings, training: Training, origin: Origin, run: str, steps: _Steps):
        self.path, self.config, self.training, self.origin, self.run = path, config, training, origin, run
        self.steps, self.ranks = steps, training.ranks
        self.rows: list[dict[str, Any]] = []
        self.best: dict[str, Any] = {}
        self.tests = 0
        self.sums = Sums(training.lr)
        self.first_risk: Tensor | None = None
        last = self.ranks.from_first(lambda: self.load(LAST) if (path / LAST).exists() else None)
        self.save(INITIAL) if last is None else self._restore(last)
        self.saved = time.monotonic()

    @property
    def start(self) -> float:
        """Risk of the first step, at the initial weights; waits for the device."""
        return 0.0 if self.first_risk is None else float(self.first_risk)

    def save(self, file: str, *others: str) -> None:
        """Write the present state, once; `others` are more names of the same file."""
        origin = self.origin
        checkpoint = Checkpoint(
            config=dump(self.config),
            state=self.training.state_dict(),
            rng=rng_state(),
            shape=origin.shape,
            classes=origin.classes,
            sums=self.sums.state_dict(),
            rows=self.rows,
            best=self.best,
            run=self.run,
            data=origin.data,
            start=self.start,
            tests=self.tests,
            program=origin.program,
        )

        def write() -> None:
            save_checkpoint(self.path / file, checkpoint)
            for other in others:
                link_whole(self.path / file, self.path / other)

        self.ranks.by_first(write)
        self.saved = time.monotonic()

    def load(self, file: str) -> Checkpoint:
        """A checkpoint of this very run."""
        checkpoint = load_checkpoint(self.path / file, OWN)
        refuse_foreign(self.path / file, checkpoint, self.config, self.run, self.origin.data, newest=VERSION)
        return checkpoint

    def best_weights(self) -> dict[str, Tensor] | None:
        """Weights of the best epoch; None where it is the last one, or there is none."""
        if not self.best or self.best["epoch"] == self.rows[-1]["epoch"]:
            return None
        return self.ranks.from_first(self._best_weights)

    def _best_weights(self) -> dict[str, Tensor]:
        held = self.load(BEST)
        if held.best != self.best:
            raise UserError(
                f"{self.path / BEST} is of epoch {held.best.get('epoch')}, and the best epoch of this run is "
                f"{self.best['epoch']}; restore it, or pass --fresh"
            )
        return held.state["model"]

    @property
    def early(self) -> bool:
        """Whether the last row is none of a longer run: of an epoch cut by max_steps, or measured as the last one."""
        return bool(self.rows) and early(self.rows[-1], self.training.epoch, self.config.evaluate_every)

    def save_epoch(self, score: Sequence[float]) -> None:
        """Save the epoch just closed, as the best one too if it is the best so far; never one whose score is NaN.

        The best weights before it stay beside until all is written, and longer where a longer run would not measure it.
        """
        if not all(map(isfinite, score)) or (self.best and not tuple(score) > tuple(self.best["score"])):
            self.save(LAST)
            return
        extra, before = self.early, self.best
        if before:
            self.ranks.by_first(self._keep_best)
        self.best = {"epoch": self.rows[-1]["epoch"], "score": list(score)} | ({"before": before} if extra else {})
        self.save(BEST, LAST)
        if not extra:
            self.ranks.by_first(lambda: (self.path / BEFORE).unlink(missing_ok=True))

    def _keep_best(self) -> None:
        if (self.path / BEST).exists():  # else it was taken away, and is missed only where it is needed
            link_whole(self.path / BEST, self.path / BEFORE)

    def reopen_epoch(self) -> None:
        """Go on where a longer run would not have measured, as if nothing had been."""
        if not self.early:
            return
        cut = self.rows.pop()
        if self.best and self.best["epoch"] == cut["epoch"]:
            self.best = dict(self.best["before"])
        self.save(LAST)
        self.ranks.by_first(self._settle_best)

    def _settle_best(self) -> None:
        """Have BEST be of the best epoch, which is in BEFORE after a kill between BEST and LAST and in a longer run."""
        if not self.best:
            return
        good, other = False, (self.path / BEFORE).exists()
        with suppress(UserError) if other else nullcontext():  # a damaged one is not of the best
            good = self._of_best(BEST)
        if not good and (good := self._of_best(BEFORE)):
            link_whole(self.path / BEFORE, self.path / BEST)
        if good and not self.best.get("before"):
            (self.path / BEFORE).unlink(missing_ok=True)

    def _of_best(self, file: str) -> bool:
        return (self.path / file).exists() and self.load(file).best == self.best

    def _restore(self, last: Checkpoint) -> None:
        put_weights(self.training.model, last.state["model"], self.origin.title)
        refuse_altered(self.path / LAST, self.training.model, last.state["model"])
        with misfits_told(self.path / LAST):
            refuse_odd_sums(last.sums, self.sums.state_dict(), refuse_misplaced(last.state, *self.steps))
            self.training.load_state_dict(last.state)
            self.sums = Sums(self.training.lr, last.sums)
            set_rng_state(last.rng)
        self.rows, self.best, self.tests = list(last.rows), dict(last.best), last.tests
        self.first_risk = torch.tensor(last.start, dtype=torch.float64)
        self.ranks.by_first(self._settle_best)
        if last.config != dump(self.config):  # the run goes on to another length
            self.ranks.by_first(self._rename_best)
            self.save(LAST)

    def _rename_best(self) -> None:
        """Have the best weights so far say that they are of the run as it is now."""
        for file in (BEST, BEFORE) if self.best else ():
            if (self.path / file).exists():
                save_checkpoint(self.path / file, self.load(file)._replace(config=dump(self.config)))


def model_of(checkpoint: Checkpoint) -> ResidualNet:
    """The trained network, in eval mode on the CPU; ValueError names the first weight that does not fit.

    What was trained module-wise comes without its auxiliary classifiers, which are no part of the map.
    """
    if checkpoint.program == FIT:
        raise ValueError(
            f"this checkpoint is one of regimes.fit: its model, {checkpoint.config.get('model')}, is not in it, only "
            "the weights. Make the model and pass it to regimes.load(RUN, model=...)."
        )
    model = network_of(checkpoint.config, checkpoint.shape, checkpoint.classes)
    put_weights(model, checkpoint.state["model"], checkpoint.config["arch"])
    return (model.whole() if isinstance(model, ModuleWiseNet) else model).eval()


def network_of(config: TrainConfig | Mapping[str, Any], shape: tuple[int, ...], classes: int) -> ResidualNet:
    """The network of a run before its weights are drawn: an architecture, or another form of it that the settings ask.

    UserError where its blocks do not go with that form.
    """
    settings = config if isinstance(config, TrainConfig) else TrainConfig.model_validate(dict(config))
    refuse_too_large(settings.arch, settings.arch_options, shape, classes)
    with users_choice():
        model = build(settings.arch, shape, classes, **settings.arch_options)
    forms = (settings.reversible, settings.mean_field, settings.module_wise, settings.movement_step)
    return formed(settings, model, shape) if any(forms) else model


def data_of(config: TrainConfig | Mapping[str, Any], *, data_dir: Path | str | None = None) -> Classification:
    """The data of a run: the same samples, parts and normalisation; data_dir where the files lie elsewhere now."""
    settings = config if isinstance(config, TrainConfig) else TrainConfig.model_validate(dict(config))
    return classification(
        settings.dataset,
        train_size=settings.train_size,
        validation=settings.validation,
        test_size=settings.test_size,
        choose=images.balanced if settings.balanced else images.uniform,
        seed=settings.seed,
        data_dir=data_dir if data_dir is not None else settings.data_dir,
    )
