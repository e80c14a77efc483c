"""Many seeds of one small network trained at once: stacked weights, one launch for all members."""

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torch.utils._pytree import tree_flatten, tree_unflatten

from regimes.checks import shapes
from regimes.data.batches import Batches
from regimes.data.member_batches import MemberBatches
from regimes.models.residual import Trace, as_trace
from regimes.models.timed import acting_in, timed_segments
from regimes.training.assemble import compiled, make_objective, make_optimiser, make_schedule
from regimes.training.config import TrainConfig
from regimes.training.loop import Step, Training, descend
from regimes.training.objectives import LeastAction, Loss, Measured, Plain
from regimes.transport.energy import transport_cost

SHARED = "step"  # what optimisers count for all members alike, beside numbers a weight


class Ensemble(nn.Module):
    """S networks of one architecture with stacked weights and buffers, each the leading axis S of a parameter here.

    `forward(x)` takes (S, n, ...), a batch for each member, and gives (S, n, k), or a Trace of stacked states; batch
    norm keeps statistics for each member. Members whose timed blocks act in different orders pass in groups of one
    order. An optimiser that treats every number alike (SGD, Adam, AdamW, without clipping by a joint norm) moves each
    member as if it were alone.
    """

    def __init__(self, members: Sequence[nn.Module]) -> None:
        super().__init__()
        if len(members) == 0:
            raise ValueError("Ensemble needs at least one network; got none.")
        kinds = {tuple((name, value.shape) for name, value in member.state_dict().items()) for member in members}
        if len(kinds) > 1:
            raise ValueError("Ensemble needs networks of one architecture; got weights of different names or shapes.")
        self.size = len(members)
        stacked = stack_module_state(list(members))
        self.architecture = copy.deepcopy(members[0])
        _hold(self.architecture, *stacked)
        for segments in zip(timed_segments(self.architecture), *map(timed_segments, members), strict=True):
            segments[0].put_order([one.orders() for one in segments[1:]])

    def state(self) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Stacked parameters and buffers by the names that they have in a member."""
        return dict(self.architecture.named_parameters()), dict(self.architecture.named_buffers())

    def forward(self, x: Float[Tensor, "members n *feature"], trace: bool = False) -> Tensor | Trace:
        """Outputs of all members, each on its own batch."""
        if not torch.compiler.is_compiling():
            shapes("Ensemble", x=(x, f"{self.size} n *feature"))
        groups = self._groups()
        if len(groups) == 1:
            found = self._together(next(iter(groups)), *self.state(), x, trace)
        else:
            found = self._in_groups(groups, x, trace)
        return Trace(*found) if trace else found[0]

    def _groups(self) -> dict[tuple[tuple[int, ...], ...], list[int]]:
        """The members whose timed blocks act in the same order, by that of each segment."""
        segments = timed_segments(self.architecture)
        for segment in segments:
            if segment.sorting == "forward":
                segment.sort()
        groups: dict[tuple[tuple[int, ...], ...], list[int]] = {}
        for member in range(self.size):
            groups.setdefault(tuple(tuple(segment.orders()[member]) for segment in segments), []).append(member)
        return groups

    def _together(self, orders: Any, parameters: Any, buffers: Any, x: Tensor, trace: bool) -> tuple[Any, ...]:
        """The parts of a trace of members whose blocks act in one order."""

        def member(parameters: dict[str, Tensor], buffers: dict[str, Tensor], x: Tensor) -> tuple[Any, ...]:
            output = functional_call(self.architecture, (parameters, buffers), (x,), {"trace": True} if trace else {})
            return tuple(as_trace(output))

        with acting_in(timed_segments(self.architecture), orders):
            return vmap(member, randomness="different")(parameters, buffers, x)

    def _in_groups(self, groups: Mapping[Any, list[int]], x: Tensor, trace: bool) -> tuple[Any, ...]:
        parameters, buffers = self.state()
        found: list[Any] = []
        for orders, members in groups.items():
            own = torch.tensor(members).to(x.device, non_blocking=True)
            part = {name: value.detach()[own] for name, value in buffers.items()}
            weights = {name: value[own] for name, value in parameters.items()}
            found.append(self._together(orders, weights, part, x[own], trace))
            with torch.no_grad():
                for name, value in buffers.items():
                    value[own] = part[name]
        places = torch.tensor([member for members in groups.values() for member in members]).argsort().to(x.device)
        leaves, trees = zip(*map(tree_flatten, found), strict=True)
        return tree_unflatten([torch.cat(parts)[places] for parts in zip(*leaves, strict=True)], trees[0])

    @torch.no_grad()
    def member(self, index: int) -> nn.Module:
        """A copy of one member as an ordinary network."""
        network = copy.deepcopy(self.architecture)
        _hold(network, *({name: value[index].clone() for name, value in state.items()} for state in self.state()))
        for segment in timed_segments(network):
            segment.put_order(segment.orders()[index])
        return network

    @torch.no_grad()
    def share(self, members: Sequence[nn.Module]) -> None:
        """From now on the weights and buffers of these networks are the parts of this ensemble's, in one memory."""
        self._strides = [{name: own.stride() for name, own in _tensors(network)} for network in members]
        whole = {name: tensor.detach() for state in self.state() for name, tensor in state.items()}
        for index, network in enumerate(members):
            for name, own in _tensors(network):
                own.data = whole[name][index]

    def hand_orders(self, members: Sequence[nn.Module]) -> None:
        """Have the timed blocks of these networks act as those of the members here: an order is not shared."""
        for index, network in enumerate(members):
            for own, stacked in zip(timed_segments(network), timed_segments(self.architecture), strict=True):
                own.put_order(stacked.orders()[index])

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
        self.objective, self.traced, self.looks = objective, objective.traced, False
        self.risk = vmap(objective.risk)

    def __call__(self, output: Tensor | Trace, targets: Tensor) -> Loss:
        """Losses of all members, each on its own batch."""
        trace, objective = as_trace(output), self.objective
        risks = self.risk(trace.output, targets)
        if not isinstance(objective, LeastAction):
            return objective.step(risks)
        how: Any = {"p": objective.p, "convention": objective.convention}
        costs = vmap(lambda steps, squares: transport_cost(steps, squares=squares, **how))
        return objective.step(risks, costs(trace.flat_steps, trace.flat_squares))

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
        self.model.hand_orders([one.model for one in members])
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


def ensemble_of(config: TrainConfig, members: Sequence[Training]) -> EnsembleTraining:
    """The trainings of several networks by the same settings as one, which goes on from where they stand."""
    ensemble = Ensemble([one.model for one in members])
    compiled(config, ensemble)
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

    The batches need the same number and sizes. Equal to single runs up to rounding.
    """
    if len(batches) != ensemble.size or len({(len(each), len(each.data.labels), each.size) for each in batches}) != 1:
        raise ValueError(f"descend_together needs batches of one number and size for {ensemble.size} members.")
    training = EnsembleTraining(ensemble, objective, optimizer, scheduler)
    return descend(training, MemberBatches(batches), epochs=epochs, autocast=autocast)


def _hold(network: nn.Module, parameters: Mapping[str, Tensor], buffers: Mapping[str, Tensor]) -> None:
    """Put these in the place of the network's own, of whatever shape, wherever they are shared."""
    new = {
        id(own): nn.Parameter(parameters[name].detach(), own.requires_grad) for name, own in network.named_parameters()
    }
    new |= {id(own): buffers[name] for name, own in network.named_buffers()}
    for module in network.modules():
        for held in (module._parameters, module._buffers):
            held |= {name: new[id(own)] for name, own in held.items() if own is not None}


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
