"""Many seeds of one small network trained at once: stacked weights, one launch for all members."""

import copy
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from regimes.checks import shapes
from regimes.data.batches import Batches
from regimes.data.member_batches import MemberBatches
from regimes.models.residual import Trace, as_trace
from regimes.training.assemble import make_objective, make_optimiser, make_schedule
from regimes.training.config import StepSettings
from regimes.training.loop import Step, Training, all_finite, descend, why_stopped
from regimes.training.objectives import LeastAction, Loss, Measured, Plain
from regimes.transport.energy import transport_cost

SHARED = "step"  # what optimisers count for all members alike, beside numbers a weight


class Ensemble(nn.Module):
    """S networks of one architecture with stacked weights and buffers, each the leading axis S of a parameter here.

    `forward(x)` takes (S, n, ...), a batch for each member, and gives (S, n, k), or a Trace of stacked states; batch
    norm keeps statistics for each member. An optimiser that treats every number alike (SGD, Adam, AdamW, without
    clipping by a joint norm) moves each member as if it were alone.
    """

    def __init__(self, members: Sequence[nn.Module]) -> None:
        super().__init__()
        if len(members) == 0:
            raise ValueError("Ensemble needs at least one network; got none.")
        kinds = {tuple((name, value.shape) for name, value in member.state_dict().items()) for member in members}
        if len(kinds) > 1:
            raise ValueError("Ensemble needs networks of one architecture; got weights of different names or shapes.")
        parameters, buffers = stack_module_state(list(members))
        self.size = len(members)
        self._names = list(parameters)
        trained = {name: weight.requires_grad for name, weight in members[0].named_parameters()}
        self._stacked = nn.ParameterList(
            [nn.Parameter(value.detach(), requires_grad=trained[name]) for name, value in parameters.items()]
        )
        self._buffer_names = list(buffers)
        for number, value in enumerate(buffers.values()):
            self.register_buffer(f"buffer{number}", value)
        # Outside the modules of this one: it gives the architecture alone.
        self.__dict__["_architecture"] = copy.deepcopy(members[0])

    def state(self) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Stacked parameters and buffers by the names that they have in a member."""
        buffers = (getattr(self, f"buffer{number}") for number in range(len(self._buffer_names)))
        return (
            dict(zip(self._names, self._stacked, strict=True)),
            dict(zip(self._buffer_names, buffers, strict=True)),
        )

    def forward(self, x: Float[Tensor, "members n *feature"], trace: bool = False) -> Tensor | Trace:
        """Outputs of all members, each on its own batch."""
        shapes("Ensemble", x=(x, f"{self.size} n *feature"))
        architecture: nn.Module = self.__dict__["_architecture"]
        if architecture.training != self.training:  # it is this class's own, so all its parts are in one mode
            architecture.train(self.training)

        def member(parameters: dict[str, Tensor], buffers: dict[str, Tensor], x: Tensor) -> tuple[Any, ...]:
            output = functional_call(architecture, (parameters, buffers), (x,), {"trace": True} if trace else {})
            return tuple(as_trace(output))

        output, paths, steps = vmap(member, randomness="different")(*self.state(), x)
        return Trace(output, paths, steps) if trace else output

    @torch.no_grad()
    def member(self, index: int) -> nn.Module:
        """A copy of one member as an ordinary network."""
        network = copy.deepcopy(self.__dict__["_architecture"])
        parameters, buffers = self.state()
        network.load_state_dict({name: value[index] for name, value in (parameters | buffers).items()})
        return network.train(self.training)

    @torch.no_grad()
    def share(self, members: Sequence[nn.Module]) -> None:
        """From now on the weights and buffers of these networks are the parts of this ensemble's, in one memory."""
        self._strides = [{name: own.stride() for name, own in _tensors(network)} for network in members]
        whole = {name: tensor.detach() for state in self.state() for name, tensor in state.items()}
        for index, network in enumerate(members):
            for name, own in _tensors(network):
                own.data = whole[name][index]

    @torch.no_grad()
    def release(self, members: Sequence[nn.Module]) -> None:
        """Give the networks memory of their own again, laid out as it was."""
        for network, strides in zip(members, self._strides, strict=True):
            for name, own in _tensors(network):
                layout = {"dtype": own.dtype, "device": own.device}
                own.data = torch.empty_strided(own.shape, strides[name], **layout).copy_(own)


class Memberwise:
    """An objective for each member of an ensemble: values, risks, transport costs and λ have the members in front."""

    def __init__(self, objective: Plain | LeastAction) -> None:
        if isinstance(objective, LeastAction) and objective.level == "whole":
            raise ValueError(
                "an ensemble moves λ by the level batch, batch_after or running; got 'whole'. Train the members singly."
            )
        self.objective, self.traced, self.looks = objective, objective.traced, False
        self.risk = vmap(objective.risk)

    def __call__(self, output: Tensor | Trace, targets: Tensor) -> Loss:
        """Losses of all members, each on its own batch."""
        trace, objective = as_trace(output), self.objective
        risks = self.risk(trace.output, targets)
        if not isinstance(objective, LeastAction):
            return objective.step(risks)
        costs = vmap(lambda steps: transport_cost(steps, p=objective.p, convention=objective.convention))
        return objective.step(risks, costs(trace.flat_steps))

    def after_step(self, batch_risk: Measured = None, whole_risk: Measured = None) -> None:
        """As the objective's own."""
        self.objective.after_step(batch_risk, whole_risk)

    def state_dict(self) -> dict[str, Any]:
        """That of the objective, whose λ is one a member."""
        return self.objective.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the same."""
        self.objective.load_state_dict(state)


class EnsembleTraining(Training):
    """What moves in the training of an ensemble by `descend`, whose batches are `MemberBatches`."""

    model: Ensemble
    objective: Memberwise

    def __init__(
        self,
        ensemble: Ensemble,
        objective: Plain | LeastAction,
        optimizer: Optimizer,
        scheduler: LRScheduler | None = None,
    ) -> None:
        super().__init__(ensemble, Memberwise(objective), optimizer, scheduler)
        self.members = ensemble.size

    def take(self, members: Sequence[Training]) -> None:
        """Go on from where the members stand, at one position, which from now on share their weights with this one."""
        positions = {(one.epoch, one.step) for one in members}
        if len(positions) != 1:
            raise ValueError(f"an ensemble goes on from one position; its members stand at {sorted(positions)}.")
        self.model.share([one.model for one in members])
        states = [one.state_dict() for one in members]
        optimizers = [state["optimizer"] for state in states]
        self.optimizer.load_state_dict(optimizers[0] | {"state": _stacked([one["state"] for one in optimizers])})
        self.objective.load_state_dict(_stacked([state["objective"] for state in states]))
        if self.scheduler is not None:
            self.scheduler.load_state_dict(states[0]["scheduler"])
        self.epoch, self.step = members[0].epoch, members[0].step

    def settle(self, members: Sequence[Training]) -> None:
        """Give the members what they do not share: the state of optimiser, λ and schedule, and the position."""
        optimizer, objective = self.optimizer.state_dict(), self.objective.state_dict()
        for index, one in enumerate(members):
            one.optimizer.load_state_dict(optimizer | {"state": _part(optimizer["state"], index)})
            one.objective.load_state_dict(_part(objective, index))
            if one.scheduler is not None and self.scheduler is not None:
                one.scheduler.load_state_dict(self.scheduler.state_dict())
            one.epoch, one.step = self.epoch, self.step

    def release(self, members: Sequence[Training]) -> None:
        """Let the members go: each is what its own training would have made of it."""
        self.settle(members)
        self.model.release([one.model for one in members])


class MemberGuard:
    """`loop.Guard` for the members of an ensemble: which are lost by now, and why."""

    def __init__(self, device: str, members: int, every: int = 50) -> None:
        self.every = 1 if device == "cpu" else every
        self.unread: list[Step] = []
        self.step: Step | None = None
        self.losses = [math.nan] * members
        self.lost: dict[int, str] = {}

    def see(self, step: Step) -> dict[int, str]:
        """Take in a step; the members whose loss is no longer finite, as far as it is read."""
        self.step = step
        self.unread.append(step)
        return self.read() if len(self.unread) >= self.every else self.lost

    def read(self) -> dict[int, str]:
        """Read the losses of the steps since the last time."""
        steps, self.unread = self.unread, []
        read = torch.stack([step.value for step in steps]).tolist() if steps else []
        for step, losses in zip(steps, read, strict=True):
            for member, loss in enumerate(losses):
                if member not in self.lost and not math.isfinite(loss):
                    self.lost[member] = why_stopped(step, f"the loss is {loss}", self.losses[member])
                self.losses[member] = loss
        return self.lost

    def check(self, models: Sequence[nn.Module]) -> dict[int, str]:
        """The same of all losses so far and all weights; to be asked before they are saved."""
        self.read()
        for member, model in enumerate(models):
            if self.step is not None and member not in self.lost and not all_finite(model.state_dict().values()):
                self.lost[member] = why_stopped(self.step, "a weight is no longer finite", self.losses[member])
        return self.lost


def ensemble_of(config: StepSettings, members: Sequence[Training]) -> EnsembleTraining:
    """The trainings of several networks by the same settings as one, which goes on from where they stand."""
    ensemble = Ensemble([one.model for one in members])
    optimiser = make_optimiser(config, ensemble)
    training = EnsembleTraining(ensemble, make_objective(config), optimiser, make_schedule(config, optimiser))
    training.take(members)
    return training


def descend_together(
    ensemble: Ensemble,
    objective: Plain | LeastAction,
    optimizer: Optimizer,
    batches: Sequence[Batches],
    *,
    epochs: int,
    scheduler: LRScheduler | None = None,
    autocast: AbstractContextManager[Any] | None = None,
) -> Iterator[Step]:
    """`loop.descend` for all members side by side, each on its own batches and with a λ of its own.

    The batches need the same number and sizes. λ moves by the batch's risk before the loss ("batch"), after the step
    ("batch_after") or its running mean: the level "whole" is refused. Equal to single runs up to rounding.
    """
    if len(batches) != ensemble.size or len({(len(each), len(each.data.labels), each.size) for each in batches}) != 1:
        raise ValueError(f"descend_together needs batches of one number and size for {ensemble.size} members.")
    training = EnsembleTraining(ensemble, objective, optimizer, scheduler)
    return descend(training, MemberBatches(batches), epochs=epochs, autocast=autocast)


def _tensors(network: nn.Module) -> list[tuple[str, Tensor]]:
    return [*network.named_parameters(), *network.named_buffers()]


def _stacked(parts: Sequence[Any]) -> Any:
    """One state from those of the members, tensors stacked; what they share is that of the first."""
    first = parts[0]
    if isinstance(first, Mapping):
        return {
            key: value if key == SHARED else _stacked([part[key] for part in parts]) for key, value in first.items()
        }
    return torch.stack(list(parts)) if isinstance(first, Tensor) else first


def _part(state: Any, index: int) -> Any:
    """The state of one member, in the memory of all."""
    if isinstance(state, Mapping):
        return {key: value if key == SHARED else _part(value, index) for key, value in state.items()}
    return state[index] if isinstance(state, Tensor) else state
