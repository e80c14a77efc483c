"""Networks in other forms than their architecture makes them: particles, states that are rebuilt, modules."""

from collections.abc import Sequence

import torch.distributed as dist

from regimes.errors import UserError
from regimes.models.module_wise import ModuleWiseNet, module_wise
from regimes.models.residual import ResidualNet
from regimes.models.reversible import reversible
from regimes.models.timed import timed
from regimes.training.config import TrainConfig


def formed(config: TrainConfig, model: ResidualNet, shape: Sequence[int]) -> ResidualNet:
    """The network in the form that the settings ask for; UserError where its blocks do not go with that.

    shape: of one input.
    """
    if config.module_wise or config.movement_step:
        return _in_modules(config, model, shape)
    if config.reversible and config.mean_field:
        raise UserError("--reversible rebuilds blocks in a fixed order, and --mean-field sorts them: leave out one")
    if config.reversible:
        return _rebuilt(config, model)
    return _particles(config, model) if config.mean_field else model


def _particles(config: TrainConfig, model: ResidualNet) -> ResidualNet:
    if len(model.segments) == 0:
        raise UserError(
            f"{config.arch} cannot be trained with --mean-field: it has no residual blocks, which are the particles. "
            "Pass another --arch, for example resnet20."
        )
    try:
        return timed(model, first_gap=config.tau_first_gap, sorting=config.tau_sort)
    except ValueError as error:
        raise UserError(f"{config.arch} cannot be trained with --mean-field: {error}") from None


def _in_modules(config: TrainConfig, model: ResidualNet, shape: Sequence[int]) -> ModuleWiseNet:
    if config.module_wise is None:
        raise UserError(
            "movement_step is the τ of module-wise training: pass --module-wise K with it, or leave it out. For the "
            "transport of the whole network take --lap"
        )
    for name, why in (
        ("reversible", "rebuilds states that modules keep"),
        ("mean_field", "sorts blocks across modules"),
        (
            "lap",
            "moves its λ by the risk of the whole network, where modules have the fixed weight 1/(2 movement_step)",
        ),
        ("compile", "compiles the network as a whole"),
        ("cuda_graphs", "replays the network as a whole"),
    ):
        if getattr(config, name):
            flag = name if name in ("compile", "cuda_graphs") else f"--{name.replace('_', '-')}"
            raise UserError(f"{flag} {why}: leave out {flag} or --module-wise")
    _refuse_processes("--module-wise")
    if len(model.segments) == 0:
        raise UserError(
            f"{config.arch} cannot be trained with --module-wise: it has no residual blocks to make modules of. "
            "Pass another --arch, for example resnet20."
        )
    try:
        return module_wise(model, config.module_wise, shape)
    except ValueError as error:
        raise UserError(f"{config.arch} cannot be trained with --module-wise: {error}") from None


def _rebuilt(config: TrainConfig, model: ResidualNet) -> ResidualNet:
    _refuse_unfit(config)
    try:
        made = reversible(model)
    except ValueError as error:
        raise UserError(f"{config.arch} cannot be trained with --reversible: {error}") from None
    if not any(segment.within() for segment in made.segments):  # type: ignore[operator]
        raise UserError(f"{config.arch} cannot be trained with --reversible: it has no residual blocks to rebuild")
    return made


def _refuse_unfit(config: TrainConfig) -> None:
    _refuse_processes("--reversible")
    if config.compile or config.cuda_graphs:
        raise UserError("what --reversible rebuilds on the way back cannot be compiled: leave out one of the two")
    if config.lap and config.p != 2:
        raise UserError(
            f"--reversible keeps of each step the sum of its squares alone, which is the cost at p=2; got "
            f"p={config.p:g}. Leave out one of the two."
        )
    if config.bf16:
        raise UserError(
            "--reversible needs blocks that come out alike when states have changed by rounding, and bfloat16 rounds "
            "them by 0.4 %. Pass --set precision=tf32 or fp32, or leave --reversible out."
        )


def _refuse_processes(flag: str) -> None:
    processes = dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1
    if processes > 1:
        raise UserError(f"{flag} has not been tried with {processes} processes: start one, or leave it out")
