"""Training a network of one's own on tensors of one's own, with the checkpoints, resume and tables of `train`."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from pydantic import ValidationError, model_validator
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from regimes.checks import finite, shapes
from regimes.data.batches import Batches
from regimes.data.classification import Labelled
from regimes.data.digest import digest
from regimes.errors import UserError
from regimes.lab.runs import default_folder
from regimes.models.residual import ResidualNet, Trace, as_trace
from regimes.models.selection import Chosen
from regimes.models.tracing import TracedModel, trace_residuals
from regimes.threads import threads_for
from regimes.training.assemble import (
    MEASURED,
    first_of,
    fitted_samples,
    make_objective,
    make_optimiser,
    make_schedule,
)
from regimes.training.checkpoint import FIT, load_checkpoint, put_weights
from regimes.training.config import StepSettings
from regimes.training.course import Course, Setup
from regimes.training.length import LAST, open_run
from regimes.training.loading import metrics_of
from regimes.training.loop import Training
from regimes.training.memory import evaluation_batch
from regimes.training.modes import eval_mode
from regimes.training.objectives import Risk, refuse_misfit
from regimes.training.recipes import OWN
from regimes.training.run import Say, carry_out
from regimes.training.runtime import prepared
from regimes.training.work import typical_work

Pair = tuple[Tensor, Tensor]


class FitConfig(StepSettings):
    """Settings of `fit`: those of `train` that do not depend on a data set, and what the model is called."""

    model: str
    blocks: list[str] = []
    shortcuts: list[str] = []
    risk: str

    @model_validator(mode="before")
    @classmethod
    def fill(cls, values: Any) -> Any:
        """Settings that were not given are those of `recipes.OWN`."""
        return {**OWN, **values} if isinstance(values, dict) else values


class Fitted(NamedTuple):
    """A finished run of `fit`.

    model: the caller's own network with the weights of the last epoch, in eval mode. traced: the same with its states,
    for `state_map`, if blocks were named. result: result.json; table: its rows; metrics: one row an epoch; path: the
    folder, from which `load(path, model=...)` reads the weights of the best epoch.
    """

    model: nn.Module
    traced: nn.Module | None
    result: dict[str, Any]
    table: list[dict[str, Any]]
    metrics: list[dict[str, Any]]
    path: Path


class Untraced(nn.Module):
    """A network without blocks, called as one that traces: its trace has no path."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor, trace: bool = False) -> Tensor | Trace:
        """The output, or a Trace of it alone."""
        output = self.model(x)
        return as_trace(output) if trace else output


class Owned(NamedTuple):
    """The caller's samples."""

    train: Labelled
    validation: Labelled | None
    test: Labelled | None
    classes: int  # 0 where targets are no class labels
    shape: tuple[int, ...]


def fit(
    model: nn.Module,
    train: Pair,
    *,
    validation: Pair | None = None,
    test: Pair | None = None,
    lap: bool = False,
    blocks: Chosen | None = None,
    shortcuts: Chosen | None = None,
    output: Callable[[Any], Tensor] | None = None,
    risk: Risk = cross_entropy,
    out: Path | str | None = None,
    fresh: bool = False,
    say: Say = lambda text: None,
    **settings: Any,
) -> Fitted:
    """Train a network of your own on your own tensors, in a folder from which it goes on where it was stopped.

    train, validation, test: pairs of inputs (n, ...) and targets: class labels (n,), or numbers of the shape of the
    output for a `risk` such as `torch.nn.functional.mse_loss`, a mean over samples. lap: least action, along the
    residual blocks named by `blocks`, `shortcuts` and `output` as in `trace_residuals` (a `ResidualNet` knows its own).
    settings: epochs, batch, lr, optimiser, ..., as in `python cli.py train --set`; see `recipes.OWN` for what is taken
    otherwise. A second call with the same arguments goes on with the run in `out`, or shows it if it is finished; with
    more epochs it becomes longer. fresh: move an old run aside and start anew from the model's present weights.
    The model itself is trained. It ends with the weights of the last epoch, on the device of the settings.
    UserError for what does not fit together; Diverged, Interrupted as in `train`.
    """
    if settings.get("device") == "cuda" and not torch.cuda.is_available():
        raise UserError("fit: device='cuda' needs a graphics card and torch with CUDA; take device='cpu'.")
    traced = _traced(model, lap, blocks, shortcuts, output)
    given = {**settings, "lap": lap, "model": type(model).__name__, "risk": _name(risk)}
    if isinstance(traced, TracedModel):
        given |= {"blocks": traced.names, "shortcuts": traced.shortcuts}
    config = _settings(given)
    data = _checked(traced, risk, config, train, validation, test)
    path = Path(out) if out is not None else default_folder(f"fit-{config.model}{'-lap' * lap}", config, set(given))
    with prepared(config.seed, config.device):
        made = _set_up(traced, data, config, risk)
        work = typical_work(made.training.model, made.batches.data.x[:1], min(config.batch, len(data.train.labels)))
        with threads_for(work), open_run(path, "fit", config, fresh=fresh) as folder:
            outcome = carry_out(Course(config, made, path, folder), say)
            put_weights(traced, load_checkpoint(path / LAST).state["model"], config.model)
    model.eval()
    tracing = None if isinstance(traced, Untraced) else traced.eval()
    return Fitted(model, tracing, outcome.result, outcome.table, metrics_of(path), path)


def _traced(
    model: nn.Module, lap: bool, blocks: Chosen | None, shortcuts: Chosen | None, output: Callable[[Any], Tensor] | None
) -> nn.Module:
    if not isinstance(model, nn.Module):
        raise UserError(f"fit needs a torch module to train; got {type(model).__name__}.")
    if isinstance(model, ResidualNet) and blocks is None and output is None:
        return model
    if lap or blocks is not None or output is not None:
        return trace_residuals(model, blocks, shortcuts=shortcuts, output=output)
    return Untraced(model)


def _settings(given: dict[str, Any]) -> FitConfig:
    unknown = sorted(set(given) - set(FitConfig.model_fields))
    if unknown:
        known = ", ".join(name for name in StepSettings.model_fields if name != "lap")
        raise UserError(f"fit has no setting {', '.join(unknown)}; it has {known}.")
    try:
        return FitConfig(**given)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        name = ".".join(map(str, first["loc"])) or "the settings"
        raise UserError(f"fit: {name}: {first['msg']}; got {first['input']!r}") from None


def _checked(
    model: nn.Module, risk: Risk, config: FitConfig, train: Pair, validation: Pair | None, test: Pair | None
) -> Owned:
    """The samples, each part checked against the first and against what the model makes of two of them."""
    parts: dict[str, Labelled | None] = {}
    for name, pair in (("train", train), ("validation", validation), ("test", test)):
        if pair is None:
            parts[name] = None
            continue
        if not isinstance(pair, tuple | list) or len(pair) != 2 or not all(isinstance(part, Tensor) for part in pair):
            raise UserError(f"fit needs {name} as a pair of tensors (inputs, targets); got {type(pair).__name__}.")
        x, y = pair
        shapes(f"fit: {name}", inputs=(x, "n *feature"), targets=(y, "n *target"))
        finite(f"fit: {name}", inputs=x, targets=y)
        labels = y.detach() if y.is_floating_point() or y.is_complex() else y.detach().long()
        parts[name] = Labelled(x.detach(), labels)
    first = parts["train"]
    assert first is not None
    labels = not first.labels.is_floating_point() and first.labels.ndim == 1
    for name, part in parts.items():
        if part is None:
            continue
        for what, own, of in (("inputs", part.x, first.x), ("targets", part.labels, first.labels)):
            if (own.shape[1:], own.dtype) != (of.shape[1:], of.dtype):
                raise UserError(
                    f"fit needs {name} {what} like those of train, {tuple(of.shape[1:])} of {of.dtype}; got "
                    f"{tuple(own.shape[1:])} of {own.dtype}."
                )
    with eval_mode(model), torch.no_grad():
        weight = next(model.parameters(), None)
        if weight is None:
            raise UserError("fit needs a model with weights to train; this one has none.")
        if not any(weight.requires_grad for weight in model.parameters()):
            raise UserError("fit needs a model with weights to train; all of this one have requires_grad=False.")
        shown = first.x[:2].to(weight.device)
        if shown.is_floating_point() and shown.dtype != weight.dtype:
            raise UserError(
                f"fit needs inputs of the model's precision, {weight.dtype}; got {shown.dtype}: convert one of the two."
            )
        try:
            outputs = as_trace(model(shown)).output
        except RuntimeError as error:
            raise UserError(
                f"fit needs inputs that the model takes; two of them, {tuple(shown.shape)} of {shown.dtype}, end in: "
                f"{error}"
            ) from error
    if not isinstance(outputs, Tensor):
        raise UserError(f"fit needs a model that returns one tensor; got {type(outputs).__name__}: pass output=.")
    finite("fit", **{"outputs of the model before training": outputs})
    targets = first.labels[:2].to(outputs.device)
    refuse_misfit("fit", outputs, targets)
    classes = 0
    if labels and outputs.ndim == 2:
        classes = outputs.shape[1]
        for name, part in parts.items():
            if part is not None and not 0 <= int(part.labels.min()) <= int(part.labels.max()) < classes:
                raise UserError(
                    f"fit needs class labels 0..{classes - 1}, as the model has {classes} outputs; {name} has "
                    f"{int(part.labels.min())}..{int(part.labels.max())}."
                )
    elif risk is cross_entropy and first.labels.is_floating_point() and bool((first.labels < 0).any()):
        raise UserError(
            "cross_entropy needs class labels or probabilities; got negative numbers: pass risk=, mse_loss say."
        )
    if config.target is not None and (validation is None or not classes):
        raise UserError(
            "target is an accuracy on validation samples: pass validation= with class labels, or leave it out."
        )
    _refuse_sum(risk, outputs, targets)
    return Owned(first, parts["validation"], parts["test"], classes, tuple(first.x.shape[1:]))


def _refuse_sum(risk: Risk, outputs: Tensor, targets: Tensor) -> None:
    """UserError where a risk does not take these outputs and targets, or is no mean: a sum doubles with its samples."""
    try:
        once, twice = risk(outputs, targets), risk(torch.cat([outputs, outputs]), torch.cat([targets, targets]))
    except (RuntimeError, ValueError, IndexError, TypeError, UserWarning) as error:
        raise UserError(
            f"fit needs a risk that takes outputs {tuple(outputs.shape)} and targets {tuple(targets.shape)} of "
            f"{targets.dtype}; {_name(risk)} ends in: {error}"
        ) from error
    if not isinstance(once, Tensor) or once.ndim > 0:
        got = f"shape {tuple(once.shape)}" if isinstance(once, Tensor) else type(once).__name__
        raise UserError(f"fit needs a risk that is one number, a mean over samples, as a tensor; got {got}.")
    if float(once) != 0 and abs(float(twice) / float(once) - 2) < 1e-3:
        raise UserError("fit needs a risk that is a mean over samples; this one is a sum: divide it by their number.")


def _set_up(model: nn.Module, data: Owned, config: FitConfig, risk: Risk) -> Setup:
    samples = digest((data.train, data.validation))
    model = model.to(config.device)
    here = data._replace(
        train=data.train.to(config.device),
        validation=None if data.validation is None else data.validation.to(config.device),
        test=None if data.test is None else data.test.to(config.device),
    )
    optimiser = make_optimiser(config, model)
    training = Training(model, make_objective(config, risk=risk), optimiser, make_schedule(config, optimiser))
    size = evaluation_batch(model, here.train.x[:1])

    def held(part: Labelled) -> Batches:
        return Batches(part, size, shuffle=False)

    return Setup(
        training,
        Batches(here.train, config.batch, seed=config.seed),
        measured=held(here.validation or first_of(here.train, MEASURED)),
        fitted=held(first_of(here.train, fitted_samples(config, len(here.train.labels)))),
        test=None if here.test is None else held(here.test),
        data=here,
        digest=samples,
        program=FIT,
        title=f"{config.model} on the caller's samples",
        head={"name": "fit", "model": config.model, "lap": config.lap, "blocks": config.blocks, "risk": config.risk},
        usual_lr=OWN["lr"],
    )


def _name(risk: Any) -> str:
    """A name for the settings: that of a function, or of the class of a module."""
    if not callable(risk):
        raise UserError(f"fit needs risk as a function (outputs, targets) → number; got {risk!r}.")
    return getattr(risk, "__name__", type(risk).__name__)
