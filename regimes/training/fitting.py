"""Training a network of one's own on tensors of one's own, with the checkpoints, resume and tables of `train`."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from pydantic import ValidationError, model_validator
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from regimes.data.digest import digest
from regimes.errors import UserError, arguments_named, users_choice
from regimes.lab.endings import full_card_told
from regimes.lab.runs import default_folder
from regimes.models.costs import evaluation_batch, typical_work
from regimes.models.module_wise import ModuleWiseNet
from regimes.models.residual import ResidualNet, Trace, as_trace
from regimes.models.selection import Chosen
from regimes.models.tracing import TracedModel, trace_residuals
from regimes.models.weights import put_weights
from regimes.modules import described, require_python, sole_tensor, unwrapped
from regimes.paths import home
from regimes.threads import threads_for
from regimes.training.assemble import Setup, make_objective, make_optimiser, make_schedule, make_setup, prepared_for
from regimes.training.caller_samples import CallerSamples, Pair, checked, name_of, refuse_trained_risk
from regimes.training.checkpoint import FIT, LAST, OWN, Origin, load_checkpoint
from regimes.training.config import StepSettings, as_argument, refuse_settings, scheduled
from regimes.training.definition import definition
from regimes.training.loading import metrics_of
from regimes.training.loop import Training
from regimes.training.objectives import Risk
from regimes.training.recipes import FIT_RECIPE
from regimes.training.run import Say, TrainingRun, carry_out, open_run


class FitConfig(StepSettings):
    """Settings of `fit`: those of `train` that do not depend on a data set, the model's name and definition."""

    model: str
    blocks: list[str] = []
    shortcuts: list[str] = []
    risk: str
    model_definition: str = ""
    risk_definition: str = ""
    output_definition: str = ""

    @model_validator(mode="before")
    @classmethod
    def fill(cls, values: Any) -> Any:
        """Settings that were not given are those of `recipes.FIT_RECIPE`."""
        return {**FIT_RECIPE, **scheduled(values), **values} if isinstance(values, dict) else values


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

    def __init__(self, model: nn.Module, output: Callable[[Any], Tensor] | None = None) -> None:
        super().__init__()
        self.model, self.output = model, output

    def forward(self, x: Tensor, trace: bool = False) -> Tensor | Trace:
        """The output, or a Trace of it alone."""
        returned = self.model(x)
        if isinstance(returned, Trace):
            return returned if trace else returned.output
        found = self.output(returned) if self.output is not None else sole_tensor(returned)
        if not isinstance(found, Tensor):
            raise UserError(f"fit needs a model that returns one tensor; got {described(returned)}: pass output=.")
        return as_trace(found) if trace else found


@arguments_named()
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
    across_commits: bool = False,
    say: Say = lambda text: None,
    **settings: Any,
) -> Fitted:
    """Train a network of your own on your own tensors, in a folder from which it goes on where it was stopped.

    train, validation, test: pairs of inputs (n, ...) and targets: class labels (n,), or numbers of the shape of the
    output for a `risk` such as `torch.nn.functional.mse_loss`, a mean over samples. lap: least action, along the
    residual blocks named by `blocks`, `shortcuts` and `output` as in `trace_residuals` (a `ResidualNet` knows its own).
    settings: epochs, batch, lr, optimiser, ..., as in `python cli.py train --set`; see `recipes.FIT_RECIPE` for what is
    taken otherwise. A second call with the same arguments goes on with the run in `out`, or shows it if it is finished;
    with more epochs it becomes longer, and what another version of regimes has begun is gone on with only with
    `across_commits`. fresh: move an old run aside and start anew from the model's present weights.
    Another run is one of another data set, setting, network or risk, by its code, constants and structure.
    The model itself is trained, all of its parts in training mode, also those that were in eval mode. It ends with the
    weights of the last epoch, on the device of the settings. A checkpoint holds the model's `state_dict` and torch's
    random state: a run that is resumed bit for bit keeps nothing else, no counters and no other random numbers.
    Of more than 10,000 training samples accuracy and risk are measured on 10,000 drawn ones.
    UserError for what does not fit together; Diverged, Interrupted as in `train`.
    """
    if not torch.is_grad_enabled():
        raise UserError("fit needs gradients, which are off: call it outside of torch.no_grad() and inference_mode().")
    refuse_trained_risk(risk)
    if isinstance(model, TracedModel) and blocks is None and shortcuts is None and output is None:
        model, blocks, shortcuts, output = _taken_apart(model)
    traced = _traced(model, lap, blocks, shortcuts, output)
    given = {**settings, "lap": lap, "model": type(model).__name__, "risk": name_of(risk)}
    if isinstance(traced, TracedModel):
        given |= {"blocks": traced.names, "shortcuts": traced.shortcuts}
    config = _settings(given)
    norms = any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in model.modules())
    refuse_settings(config, norms=norms, says=as_argument)
    data = checked(traced, risk, config.target, train, validation, test)
    given |= {"model_definition": definition(model, model), "risk_definition": definition(risk, model)}
    given |= {} if output is None else {"output_definition": definition(output, model)}
    config = _settings(given)  # defined now, as the first call has made weights that had no shape
    same = set(given) - (set(settings) - {"epochs"})  # a run of more epochs is the same run, and becomes longer
    path = home(out) if out is not None else default_folder(f"fit-{config.model}{'-lap' * lap}", config, same)
    cure = "pass a smaller batch, or precision='bf16'"
    with full_card_told(config.device, cure), prepared_for(config):
        setup = _set_up(traced, data, config, risk)
        how: dict[str, Any] = {"fresh": fresh, "across_commits": across_commits, "data": setup.origin.data}
        with threads_for(setup.work), open_run(path, "fit", config, **how) as folder:
            outcome = carry_out(TrainingRun(config, setup, path, folder), say)
            put_weights(traced, load_checkpoint(path / LAST, OWN).state["model"], config.model)
    model.eval()
    tracing = None if isinstance(traced, Untraced) else traced.eval()
    return Fitted(model, tracing, outcome.result, outcome.table, metrics_of(path), path)


def _traced(
    model: nn.Module, lap: bool, blocks: Chosen | None, shortcuts: Chosen | None, output: Callable[[Any], Tensor] | None
) -> nn.Module:
    if not isinstance(model, nn.Module):
        raise UserError(f"fit needs a torch module to train; got {type(model).__name__}.")
    with users_choice():
        model = unwrapped(model, "fit")
        require_python(model, "fit")
    for name, part in model.named_modules():
        if getattr(part, "sparse", False):
            raise UserError(f"fit needs dense gradients; layer {name!r} has sparse=True: set it to False.")
    odd = [name for name, value in model.state_dict().items() if not isinstance(value, Tensor)]
    if odd:
        raise UserError(
            f"fit needs a model whose state_dict holds tensors alone, as a checkpoint does; {odd[0]} is none: leave "
            "out get_extra_state and set_extra_state."
        )
    if isinstance(model, ModuleWiseNet):
        _refuse_beside_modules(lap, blocks=blocks, shortcuts=shortcuts, output=output)
    if isinstance(model, ResidualNet) and blocks is None and output is None:
        return model
    if lap or blocks is not None:
        with users_choice():
            return trace_residuals(model, blocks, shortcuts=shortcuts, output=output)
    return Untraced(model, output)


def _taken_apart(traced: TracedModel) -> tuple[nn.Module, Chosen | None, Chosen | None, Any]:
    """The network in it, with the names of blocks and shortcuts that it was made with."""
    if isinstance(traced.own, ResidualNet):
        return traced.model, None, None, traced.output
    return traced.model, traced.names, traced.shortcuts, traced.output


def _refuse_beside_modules(lap: bool, **named: Any) -> None:
    if lap:
        raise UserError(
            "fit: lap moves its λ by the risk of the whole network, and a ModuleWiseNet learns by that of each module: "
            "leave lap out, or pass the network that was cut."
        )
    given = [name for name, value in named.items() if value is not None]
    if given:
        raise UserError(
            f"fit: a ModuleWiseNet has blocks and an output of its own; got {', '.join(given)}. Leave them out."
        )


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


def _set_up(model: nn.Module, data: CallerSamples, config: FitConfig, risk: Risk) -> Setup:
    samples = digest((data.train, data.validation, *([] if data.test is None else [data.test])))
    model = model.to(config.device)
    here = data._replace(
        train=data.train.to(config.device),
        validation=None if data.validation is None else data.validation.to(config.device),
        test=None if data.test is None else data.test.to(config.device),
    )
    optimiser = make_optimiser(config, model)
    training = Training(model, make_objective(config, risk=risk), optimiser, make_schedule(config, optimiser))
    sample = here.train.x[:1]
    return make_setup(
        config,
        training,
        here,
        evaluation_batch(model, sample),
        origin=Origin(FIT, f"{config.model} on the caller's samples", data.shape, data.classes, samples),
        work=typical_work(model, sample, min(config.batch, len(here.train.labels))),
        head={"name": "fit", "model": config.model, "lap": config.lap, "blocks": config.blocks, "risk": config.risk},
        usual_lr=FIT_RECIPE["lr"],
    )
