"""Many seeds of one small network trained at once: stacked weights, one launch for all members."""

import copy
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from regimes.checks import shapes
from regimes.data.batches import Batches
from regimes.data.member_batches import MemberBatches
from regimes.models.residual import Trace, as_trace
from regimes.training.loop import risk_again
from regimes.training.objectives import LeastAction, Loss, Plain
from regimes.transport.energy import transport_cost


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
        self._stacked = nn.ParameterList([nn.Parameter(value.detach()) for value in parameters.values()])
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


class EnsembleStep(NamedTuple):
    """One step of all members: figures of shape (S,), transport None if it is not measured."""

    epoch: int
    number: int
    value: Float[Tensor, " members"]
    risk: Float[Tensor, " members"]
    transport: Float[Tensor, " members"] | None
    correct: Int[Tensor, " members"]
    samples: int


def descend_together(
    ensemble: Ensemble,
    objective: Plain | LeastAction,
    optimizer: Optimizer,
    batches: Sequence[Batches],
    *,
    epochs: int,
    scheduler: LRScheduler | None = None,
    autocast: AbstractContextManager[Any] | None = None,
) -> Iterator[EnsembleStep]:
    """`loop.descend` for all members side by side, each on its own batches and with a λ of its own.

    The batches need the same number and sizes. λ moves by the batch's risk before the loss ("batch"), after the step
    ("batch_after") or its running mean: the level "whole" is refused. Equal to single runs up to rounding.
    """
    if len(batches) != ensemble.size or len({(len(each), len(each.data.labels), each.size) for each in batches}) != 1:
        raise ValueError(f"descend_together needs batches of one number and size for {ensemble.size} members.")
    if isinstance(objective, LeastAction) and objective.level == "whole":
        raise ValueError(
            "an ensemble moves λ by the level batch, batch_after or running; got 'whole'. Train the members singly."
        )
    context = nullcontext() if autocast is None else autocast
    risk, drawn = vmap(objective.risk), MemberBatches(batches)
    ensemble.train()
    for epoch in range(epochs):
        for number, (x, labels) in enumerate(drawn.epoch(epoch)):
            if not ensemble.training:
                ensemble.train()
            loss, correct = _optimise(ensemble, objective, optimizer, x, labels, context)
            objective.after_step(lambda x=x, labels=labels: risk_again(ensemble, risk, x, labels, context))
            samples = labels.shape[1]
            del x, labels
            yield EnsembleStep(epoch, number, loss.value, loss.risk, loss.transport, correct, samples)
        if scheduler is not None:
            scheduler.step()


def _optimise(
    ensemble: Ensemble,
    objective: Plain | LeastAction,
    optimizer: Optimizer,
    x: Tensor,
    labels: Tensor,
    context: AbstractContextManager[Any],
) -> tuple[Loss, Tensor]:
    """One step of the optimiser: its losses, without the graph, and how many answers were right; the rest is let go."""
    optimizer.zero_grad(set_to_none=True)
    with context:
        trace = as_trace(ensemble(x, trace=objective.traced))
        risks = vmap(objective.risk)(trace.output, labels)
        if isinstance(objective, LeastAction):
            costs = vmap(lambda steps: transport_cost(steps, p=objective.p, convention=objective.convention))
            loss = objective.step(risks, costs(trace.flat_steps))
        else:
            loss = objective.step(risks)
    loss.value.sum().backward()
    optimizer.step()
    correct = (trace.output.detach().argmax(-1) == labels).sum(1)
    return loss._replace(value=loss.value.detach()), correct
