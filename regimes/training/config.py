"""Settings of one training run; what is not given comes from the recipe of the data set."""

import importlib.util
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from regimes.errors import UserError
from regimes.lab.config import Settings
from regimes.lab.runs import default_folder
from regimes.training.recipes import ARCH_OPTIONS, CALMER, POOL, RECIPES

Count = Annotated[int, Field(ge=1)]
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(ge=0, lt=1)]
MOST_SEED = 2**63 - 1  # of the last run
# Settings of a part of training that can be switched off, and what switches it.
LEAST_ACTION = ("multiplier", "growth", "every", "form", "level", "memory")
PARTICLES = ("tau_start", "tau_first_gap", "tau_sort", "tau_lr_factor", "tau_weight_decay", "tau_clip")
SWITCHES = ("dataset", "arch", "model", "risk", "optimiser", "schedule", "lap", "mean_field")


class NetSettings(Settings):
    """Which network learns which samples."""

    dataset: Literal[
        "circles", "donut1d", "donut2d", "squares2d", "spiral2d", "digits", "mnist", "cifar10", "cifar100"
    ] = Field("digits", description="data set")
    data_dir: Path | None = Field(None, description="folder with the data files; null: REGIMES_DATA_DIR")
    train_size: Count | None = Field(None, description="training samples; null: all that validation leaves")
    validation: Annotated[int, Field(ge=0)] = Field(description="samples that choose the best epoch")
    test_size: Count | None = Field(None, description="test samples; null: all")
    balanced: bool = Field(False, description="classes of the training subset equal, not in the mean only")
    augment: bool = Field(description="random crop and flip")
    cutout: Count | None = Field(
        None, description="side in pixels of a black square somewhere on each image; null: none"
    )

    arch: str = Field(description="architecture")
    arch_options: dict[str, Any] = Field(description="options of the architecture, such as filters and blocks")
    init: Literal["kaiming", "orthogonal", "normal", "xavier", "lecun", "kaiming_uniform", "uniform", "truncated"] = (
        Field(description="law of the initial weights")
    )
    gain: Positive = Field(description="factor on the initial weights")
    init_biases: bool = Field(False, description="draw the biases too, in place of zeros")


def as_precision(bf16: Any, values: Mapping[str, Any]) -> tuple[str, Any]:
    """What `bf16` of earlier versions says by its present name, precision, beside the values so far."""
    if not isinstance(bf16, bool):
        raise ValueError(f"bf16 needs true or false; got {bf16!r}. Set precision instead")
    before = values.get("precision", "tf32")
    return "precision", "bf16" if bf16 else "tf32" if before == "bf16" else before


class StepSettings(Settings):
    """How a network is trained, whichever it is: what `train` and `regimes.fit` have in common."""

    OLD_NAMES: ClassVar[dict[str, Callable[[Any, Mapping[str, Any]], tuple[str, Any]]]] = {"bf16": as_precision}

    epochs: Count = Field(description="passes over the training samples")
    max_steps: Count | None = Field(None, description="stop after this many optimiser steps; null: never")
    batch: Count = Field(description="samples a step")
    optimiser: Literal["sgd", "adam", "adamw"] = Field(description="how weights are changed")
    lr: Positive = Field(description="learning rate at the start")
    momentum: Share = Field(description="of sgd")
    nesterov: bool = Field(False, description="Nesterov's momentum, of sgd")
    betas: Annotated[list[Share], Field(min_length=2, max_length=2)] = Field(description="of adam and adamw")
    weight_decay: NotNegative = Field(description="factor of the penalty on the squared weights")
    schedule: Literal["multistep", "cosine", "constant"] = Field(description="course of the learning rate")
    milestones: list[Count] = Field(
        description="epochs after which multistep multiplies it by gamma; given alone, they ask for multistep"
    )
    gamma: Annotated[float, Field(gt=0, le=1)] = Field(description="factor of multistep")

    lap: bool = Field(False, description="least action in place of the risk alone")
    multiplier: Positive = Field(description="λ at the start, of least action")
    growth: NotNegative = Field(description="τ: how fast λ grows with the risk, of least action")
    every: Count = Field(description="s: steps between two updates of λ, of least action")
    p: Annotated[float, Field(ge=1)] = Field(2.0, description="exponent of the transport cost")
    convention: Literal["mean_over_features", "sum_over_features"] = Field(
        "mean_over_features", description="norm of the transport cost, over the features of a state"
    )
    form: Literal["divided", "multiplied", "risk_only"] = Field(
        description="objective of least action: risk + cost/λ, λ·risk + cost, or λ·risk alone"
    )
    level: Literal["batch", "batch_after", "running", "whole"] = Field(
        description="risk by which λ grows: of the batch before or after the step, a running mean, or all"
    )
    memory: Share = Field(0.9, description="of the running mean")

    tau_lr_factor: NotNegative | None = Field(
        None, description="learning rate of τ over that of θ; null: 1/L², so that L τ has that of θ"
    )
    tau_weight_decay: NotNegative = Field(0.0, description="weight decay of τ")
    tau_clip: Positive | None = Field(None, description="largest norm of τ's gradient; null: none")

    seed: Annotated[int, Field(ge=0, le=MOST_SEED)] = Field(0, description="of data, weights and batches")
    device: Literal["cpu", "cuda"] = Field("cpu", description="where it is computed")
    precision: Literal["fp32", "tf32", "bf16"] = Field(
        "tf32",
        description="of products: float32; on a card TF32 (on a CPU the same as fp32); or bfloat16 by autocast. "
        "bf16=true and bf16=false are old names of bf16 and tf32",
    )
    cudnn_benchmark: bool = Field(False, description="on a card try convolution algorithms and take the fastest")
    evaluate_every: Count = Field(1, description="epochs between two lines of metrics.csv and looks at validation")
    target: Annotated[float, Field(gt=0, le=1)] | None = Field(
        None, description="validation accuracy whose time is told; null: none"
    )
    checkpoint_seconds: NotNegative = Field(60.0, description="seconds between two checkpoints within an epoch")
    tensorboard: bool = Field(False, description="write TensorBoard events")

    @model_validator(mode="before")
    @classmethod
    def old_name_of_precision(cls, values: Any) -> Any:
        """Settings of earlier versions had bf16 in place of precision."""
        if not isinstance(values, dict) or "bf16" not in values:
            return values
        bf16, rest = values["bf16"], {name: value for name, value in values.items() if name != "bf16"}
        given, found = rest.get("precision"), dict([as_precision(bf16, rest)])
        if given is not None and (given == "bf16") != bf16:
            raise ValueError(f"precision {given} and bf16 {str(bf16).lower()} contradict each other; leave bf16 out")
        return rest | found

    @property
    def bf16(self) -> bool:
        """Whether products are made in bfloat16."""
        return self.precision == "bf16"


class TrainConfig(StepSettings, NetSettings):
    """One training run of a classifier. Fields without a default take it from the data set's recipe."""

    mean_field: bool = Field(False, description="blocks as particles (θ, τ), sorted by their times τ")
    tau_start: Literal["uniform", "random"] = Field(
        "uniform", description="times at the start: τ^l = l/L, which is the plain net, or drawn from [0, 1]"
    )
    tau_first_gap: bool = Field(True, description="the first block moves by its τ, else by weight 1")
    tau_sort: Literal["forward", "epoch", "never"] = Field(
        "forward", description="when blocks are put in the order of their times"
    )

    reversible: bool = Field(
        False, description="states rebuilt on the way back, not stored; blocks without an inverse run in two copies"
    )

    module_wise: Count | None = Field(
        None, description="K: modules of consecutive blocks, trained greedily, each for a classifier of its own"
    )
    movement_step: Positive | None = Field(
        None, description="τ of module_wise: each module's transport counts 1/(2τ); null: no transport"
    )

    seeds: Count = Field(1, description="runs, with seed, seed + 1, ...")
    channels_last: bool = Field(True, description="memory layout of images")
    compile: bool = Field(False, description="torch.compile the network")
    cuda_graphs: bool = Field(False, description="compiled, and replayed as CUDA graphs")

    @model_validator(mode="before")
    @classmethod
    def fill(cls, values: Any) -> Any:
        """Settings that were not given are those of the data set."""
        return resolve(values) if isinstance(values, dict) else values


def refuse_settings(config: StepSettings, *, norms: bool, says: Callable[..., str]) -> None:
    """UserError for settings that contradict each other, or that this machine cannot meet.

    norms: whether the network has batch norms. says: how a setting is written, as in `says(batch=2)`, on the command
    line or as an argument.
    """
    if norms and config.batch == 1:
        raise UserError(
            "the network has batch normalisation, which needs a batch of at least 2; got batch 1. "
            f"Pass {says(batch=2)}."
        )
    if config.nesterov and config.momentum == 0:
        raise UserError("nesterov needs a momentum above 0; got momentum 0. Set one of the two otherwise.")
    if config.tensorboard and importlib.util.find_spec("tensorboard") is None:
        raise UserError("tensorboard=true needs the package tensorboard: install it with pip, or leave the setting out")
    import torch  # here, as settings are read and shown without it

    if config.device == "cuda" and not torch.cuda.is_available():
        raise UserError(
            "device 'cuda' needs a CUDA graphics card and a torch built for it; "
            f"torch {torch.__version__} sees none: pass {says(device='cpu')}"
        )


def as_option(**setting: Any) -> str:
    """A setting on the command line of `train`."""
    ((name, value),) = setting.items()
    return f"--{name} {value}" if name in ("batch", "device", "epochs") else f"--set {name}={value}"


def as_argument(**setting: Any) -> str:
    """A setting as an argument of `fit`."""
    ((name, value),) = setting.items()
    return f"{name}={value!r}"


def folder_of(config: TrainConfig) -> Path:
    """Where a run goes: runs/train-DATASET-ARCH[-lap][-meanfield]...[-nSIZE][-seedK], digest of the rest."""
    parts = ["train", config.dataset, config.arch]
    named = {"dataset", "arch", "data_dir"}  # the same run, wherever its data lie
    for name, part in (
        ("lap", "lap" if config.lap else ""),
        ("mean_field", "meanfield" if config.mean_field else ""),
        ("reversible", "reversible" if config.reversible else ""),
        ("module_wise", f"{config.module_wise}modules" if config.module_wise else ""),
        ("train_size", f"n{config.train_size}" if config.train_size else ""),
        ("seed", f"seed{config.seed}" if config.seed else ""),
        ("seeds", f"{config.seeds}seeds" if config.seeds > 1 else ""),
    ):
        if part:
            parts.append(part)
            named.add(name)
    return default_folder("-".join(parts), config, named)


HEAD = ("dataset", "arch", "lap", "mean_field", "module_wise", "movement_step")  # what results begin with
SPARE = 1000  # validation samples beside a training subset


def scheduled(given: Mapping[str, Any]) -> dict[str, Any]:
    """The schedule that milestones ask for where none is given."""
    return {"schedule": "multistep"} if given.get("milestones") and given.get("schedule") is None else {}


def resolve(given: dict[str, Any]) -> dict[str, Any]:
    """All settings: those given, and those of the data set's recipe where nothing (or None) is given.

    Validation samples: 10 % of the pool, or beside a training subset SPARE of the rest (what there is, if less). The
    length of a run changes no part of the data.
    """
    dataset = given.get("dataset")
    if not isinstance(dataset, str):  # nothing, or what validation will refuse
        dataset = "digits"
    recipe = RECIPES.get(dataset, RECIPES["digits"])
    if given.get("lr") is None and given.get("optimiser") is None:
        recipe = recipe | CALMER.get(str(given.get("arch")), {})
    options = given.get("arch_options") or {}
    recipe = recipe | scheduled(given)
    values = {**recipe, **{key: value for key, value in given.items() if value is not None}}
    if isinstance(options, dict) and isinstance(values["arch"], str):
        values["arch_options"] = {**ARCH_OPTIONS.get((dataset, values["arch"]), {}), **options}
    pool, train = POOL.get(dataset, 0), given.get("train_size")
    if given.get("validation") is None:
        values["validation"] = min(SPARE, max(0, pool - train)) if isinstance(train, int) else pool // 10
    return values


def idle(config: StepSettings) -> str:
    """A further sentence that names the settings that were changed and have no effect; "" where there are none."""
    names = type(config).model_fields
    switches = {name: getattr(config, name) for name in SWITCHES if name in names}
    usual = type(config)(**switches)
    changed = {name for name in names if getattr(config, name) != getattr(usual, name)}
    found = [
        f"{', '.join(some)} ({why})"
        for why, members in _without_effect(config).items()
        if (some := [name for name in members if name in changed])
    ]
    return f" Settings without effect here: {'; '.join(found)}." if found else ""


def _without_effect(config: StepSettings) -> Mapping[str, tuple[str, ...]]:
    """Names of settings by the switch that they would need."""
    found: dict[str, tuple[str, ...]] = {}
    if not config.lap:
        found["of least action: lap"] = LEAST_ACTION
    elif config.level != "running":
        found["of level=running"] = ("memory",)
    if not getattr(config, "mean_field", True):  # `fit` finds times in the network itself
        found["of blocks as particles: mean_field"] = PARTICLES
    if config.optimiser == "sgd":
        found["of adam and adamw"] = ("betas",)
    else:
        found["of sgd"] = ("momentum", "nesterov")
    if config.schedule != "multistep":
        found["of schedule=multistep"] = ("milestones", "gamma")
    return found
