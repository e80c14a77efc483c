"""Settings → the objects of a run: model, objective, optimiser, schedule, batches."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any, NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.optim import SGD, Adam, AdamW, Optimizer
from torch.optim.lr_scheduler import CosineAnnealingLR, LRScheduler, MultiStepLR

from regimes.conventions import generator
from regimes.data.augment import Augmentation, compose, cutout, flip, random_crop
from regimes.data.batches import Batches
from regimes.data.classification import Labelled
from regimes.data.digest import digest
from regimes.errors import UserError
from regimes.machine import prepared
from regimes.models.costs import evaluation_batch, typical_work
from regimes.models.initialise import LAWS, initialise
from regimes.models.layout import channels_last
from regimes.models.timed import draw_times, timed_segments
from regimes.processes import SINGLE, SingleProcess
from regimes.streams import Run
from regimes.training.batch_norm import join_batch_norms
from regimes.training.checkpoint import PROGRAM, Origin, data_of, network_of
from regimes.training.config import HEAD, MOST_SEED, StepSettings, TrainConfig, as_option, refuse_settings
from regimes.training.loop import Training
from regimes.training.module_wise import MinimisingMovement
from regimes.training.objectives import LeastAction, Plain, Risk
from regimes.training.recipes import CLASSES, RECIPES, SHAPES, TEST

MEASURED = 1000  # training samples on which energies are measured where there is no validation sample
FITTED = 10_000  # most training samples that are measured at the end


def prepared_for(config: StepSettings, seed: int | None = None) -> AbstractContextManager[None]:
    """`machine.prepared` with seed (or another), device, precision and choice of algorithms of the settings."""
    own = {"precision": config.precision, "cudnn_benchmark": config.cudnn_benchmark}
    return prepared(config.seed if seed is None else seed, config.device, **own)


@runtime_checkable
class Parts(Protocol):
    """Samples by their use; validation and test may be absent."""

    @property
    def train(self) -> Labelled: ...
    @property
    def validation(self) -> Labelled | None: ...
    @property
    def test(self) -> Labelled | None: ...
    @property
    def classes(self) -> int: ...
    @property
    def shape(self) -> tuple[int, ...]: ...


class Setup(NamedTuple):
    """What one run works with: the training, its batches, and those that measure it.

    measured: after each epoch, the validation samples or, where there are none, some training samples. fitted: training
    samples, and test: test samples, at the end; of each fewer if `first_steps` says so. Some of a part are drawn from
    all of it, the same in every run, as samples may be stored class by class. data: parts on the device.
    work: multiply-adds of a typical product of one step, from which the threads of the run follow.
    """

    training: Training
    batches: Batches
    measured: Batches
    fitted: Batches
    test: Batches | None
    data: Parts
    origin: Origin
    work: float
    head: dict[str, Any]  # what result.json begins with
    usual_lr: float  # a learning rate from which to go on after a larger one diverged
    all_tests: int = 0  # test samples that there are


def check(config: TrainConfig) -> None:
    """Refuse what cannot be trained, before any data is read and any folder made."""
    with torch.device("meta"):  # shapes alone: no memory, no random numbers
        model = network_of(config, SHAPES[config.dataset], CLASSES[config.dataset])
    if config.lap and not len(model.segments):
        raise UserError(
            f"least action moves data along residual blocks; {config.arch} has none. "
            "Leave out --lap, or pass another --arch, for example resnet9."
        )
    norms = any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in model.modules())
    refuse_settings(config, norms=norms, says=as_option)
    if (config.augment or config.cutout) and len(SHAPES[config.dataset]) != 3:
        raise UserError(f"augment and cutout change images; {config.dataset} has none. Leave them out.")
    side = min(SHAPES[config.dataset][1:], default=0)
    if config.cutout and config.cutout >= side:
        raise UserError(
            f"cutout blackens a square of each image, of {config.cutout} pixels a side; the images of {config.dataset} "
            f"have {side}, so that nothing would be left. Set it below that, to {side // 2} say."
        )
    if config.target is not None and config.validation == 0:
        raise UserError(
            "target is an accuracy on validation samples; got validation 0. Set validation, or leave it out."
        )
    if config.seed + config.seeds - 1 > MOST_SEED:
        raise UserError(
            f"seed {config.seed} with seeds {config.seeds} goes beyond {MOST_SEED}, the largest seed: take a smaller "
            "seed, or fewer seeds"
        )
    if config.cuda_graphs and config.device != "cuda":
        raise UserError("cuda_graphs needs device cuda; got device cpu. Leave it out, or pass compile=true instead.")
    if (config.compile or config.cuda_graphs) and config.mean_field and config.tau_sort == "forward":
        raise UserError(
            "blocks that are sorted at each forward pass cannot be compiled: their order is read in the midst of the "
            "network. Pass tau_sort=epoch or tau_sort=never, or leave compile and cuda_graphs out."
        )


def compiled(config: TrainConfig, model: nn.Module) -> None:
    """Compile the network in place where the settings ask for it."""
    if config.compile or config.cuda_graphs:
        model.compile(mode="reduce-overhead" if config.cuda_graphs else None)


def assemble(config: TrainConfig, ranks: SingleProcess = SINGLE) -> Setup:
    """Data on the device, a model with fresh weights, and what trains it: one of several processes' part of it."""
    first = ranks.by_first(lambda: data_of(config))  # before the others, so that files are downloaded once
    stored = first or data_of(config)
    samples = digest((stored.train, stored.validation))
    data = stored.to(config.device)
    seed = generator(config.seed, Run.WEIGHTS)
    model = network_of(config, data.shape, data.classes)
    initialise(model, LAWS[config.init], config.gain, generator=seed, biases=config.init_biases)
    if config.tau_start == "random":
        draw_times(model, generator(config.seed, Run.TIMES))
    model = model.to(config.device)
    sample = data.normalise(data.train.x[:1])
    work = typical_work(model, sample, min(config.batch, len(data.train.labels)) / ranks.count)
    if config.channels_last and len(data.shape) == 3:
        channels_last(model)
    size = evaluation_batch(model, sample)
    if ranks.count > 1:
        join_batch_norms(model, ranks.gather)
    compiled(config, model)
    optimiser = make_optimiser(config, model)
    if config.movement_step is None:
        objective = make_objective(config, ranks)
    else:
        how: Any = {"p": config.p, "convention": config.convention}
        objective = MinimisingMovement(step=config.movement_step, **how)
    schedule = make_schedule(config, optimiser)
    return make_setup(
        config,
        Training(model, objective, optimiser, schedule, ranks=ranks),
        data,
        size,
        normalise=data.normalise,
        augment=make_augmentation(config),
        channels_last=config.channels_last,
        origin=Origin(PROGRAM, f"{config.arch} on {config.dataset}", data.shape, data.classes, samples),
        work=work,
        head={"name": "train"} | {name: getattr(config, name) for name in HEAD},
        usual_lr=RECIPES[config.dataset]["lr"],
        all_tests=TEST[config.dataset],
    )


def make_setup(
    config: StepSettings,
    training: Training,
    data: Parts,
    size: int,
    *,
    normalise: Callable[[Tensor], Tensor] | None = None,
    augment: Augmentation | None = None,
    channels_last: bool = False,
    **about: Any,
) -> Setup:
    """The training with its batches, and those that measure it, `size` samples each; `about`: the rest of a Setup."""
    ranks = training.ranks
    batches = Batches(
        data.train,
        config.batch,
        seed=config.seed,
        normalise=normalise,
        augment=augment,
        channels_last=channels_last,
    )
    most = first_steps(config, batches)

    def measuring(part: Labelled, count: int | None = None) -> Batches:
        some = places(len(part.labels), min((number for number in (count, most) if number is not None), default=None))
        how: Any = {"normalise": normalise, "channels_last": channels_last, "only": some}
        return Batches(part, size, shuffle=False, **how).shard(ranks.rank, ranks.count)

    return Setup(
        training,
        batches.shard(ranks.rank, ranks.count),
        measured=measuring(data.train, MEASURED) if data.validation is None else measuring(data.validation),
        fitted=measuring(data.train, FITTED),
        test=None if data.test is None else measuring(data.test),
        data=data,
        **about,
    )


def training_work(model: nn.Module, batches: Batches) -> float:
    """`typical_work` of one batch of a training."""
    x, samples = batches.data.x[:1], min(batches.size, len(batches.data.labels))
    return typical_work(model, x if batches.normalise is None else batches.normalise(x), samples)


def places(samples: int, count: int | None) -> Tensor | None:
    """Where the samples lie that stand for a part of `samples`: `count` drawn places in order; None: all of them."""
    if count is None or count >= samples:
        return None
    return torch.randperm(samples, generator=generator(0, Run.MEASURED))[:count].sort().values


def first_steps(config: StepSettings, batches: Batches) -> int | None:
    """How many samples of a part are measured in a run that max_steps ends within its first epoch; None: all others.

    No more than it has trained on, but 100: a look at the first steps takes no longer than these. Parts stay whole.
    """
    steps = config.max_steps
    return max(100, steps * config.batch) if steps is not None and steps < len(batches) else None


def make_objective(
    config: StepSettings, ranks: SingleProcess = SINGLE, risk: Risk = cross_entropy
) -> Plain | LeastAction:
    """The risk alone, or least action."""
    if not config.lap:
        return Plain(risk, join=ranks.mean)
    return LeastAction(
        risk,
        multiplier=config.multiplier,
        growth=config.growth,
        every=config.every,
        p=config.p,
        convention=config.convention,
        form=config.form,
        level=config.level,
        memory=config.memory,
        join=ranks.mean,
    )


def make_optimiser(config: StepSettings, model: nn.Module) -> Optimizer:
    """SGD, Adam or AdamW on all weights alike; times τ, if there are any, are groups with settings of their own.

    In a segment of L particles blocks move by differences of L τ. A gradient step on τ moves L τ by L² times what one
    on L τ itself would: a learning rate L² times smaller makes up for it (`tau_lr_factor` None).
    """
    times = [segment.times for segment in timed_segments(model) if segment.times.shape[-1]]
    weights = [own for own in model.parameters() if own.requires_grad and not any(own is time for time in times)]
    groups: list[dict[str, Any]] = [{"params": weights}]
    for time in times:
        lr = config.lr * (time.shape[-1] ** -2 if config.tau_lr_factor is None else config.tau_lr_factor)
        groups.append({"params": [time], "lr": lr, "weight_decay": config.tau_weight_decay})
    rest: dict[str, Any] = {"lr": config.lr, "weight_decay": config.weight_decay, "fused": True}
    if config.optimiser == "sgd":
        optimiser: Optimizer = SGD(groups, momentum=config.momentum, nesterov=config.nesterov, **rest)
    else:
        kind = {"adam": Adam, "adamw": AdamW}[config.optimiser]
        optimiser = kind(groups, betas=(config.betas[0], config.betas[1]), **rest)
    if times and config.tau_clip is not None:
        clip_before_steps(optimiser, times, config.tau_clip)
    return optimiser


def clip_before_steps(optimiser: Optimizer, weights: Sequence[nn.Parameter], norm: float) -> None:
    """From now on each step shortens the joint gradient of these vectors, of an ensemble each member's, to `norm`."""

    def shorten(*step: Any) -> None:
        found = [weight.grad for weight in weights if weight.grad is not None]
        factors = norm / (torch.cat(found, dim=-1).norm(dim=-1, keepdim=True) + 1e-6)  # as torch's clip_grad_norm_
        for gradient in found:
            gradient.mul_(factors.clamp(max=1))

    optimiser.register_step_pre_hook(shorten)


def make_schedule(config: StepSettings, optimiser: Optimizer) -> LRScheduler | None:
    """The learning rate by epochs: constant, falling by gamma at milestones, or a half cosine to 0 after the last one.

    `max_steps` ends a run earlier and leaves its schedule alone: what was trained is the beginning of the whole run.
    """
    if config.schedule == "multistep":
        return MultiStepLR(optimiser, config.milestones, config.gamma)
    return CosineAnnealingLR(optimiser, config.epochs) if config.schedule == "cosine" else None


def make_augmentation(config: TrainConfig) -> Augmentation | None:
    """Random crop of 4 pixels and flip, then cutout, as far as asked for."""
    parts = [random_crop(4), flip()] if config.augment else []
    parts += [cutout(config.cutout)] if config.cutout else []
    return compose(*parts) if parts else None
