"""What training minimises: the risk alone, or the least-action objective with its multiplier λ."""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import cross_entropy

from regimes.checks import count, not_negative, positive
from regimes.models.residual import Trace, as_trace
from regimes.modules.targets import Risk, Targets, risk_of
from regimes.modules.window import Window
from regimes.processes import over_processes
from regimes.transport.cost import check_exponent
from regimes.transport.energy import Convention, mean_over_features, transport_cost
from regimes.transport.forms import (
    CONVENTIONS,
    FORMS,
    RISKS,
    Form,
    chosen,
    combined,
    divided,
    multiplied,
    risk_only,
)

__all__ = [
    "CONVENTIONS",
    "FORMS",
    "LEVELS",
    "LeastAction",
    "Loss",
    "Objective",
    "Plain",
    "Risk",
    "alone",
    "divided",
    "multiplied",
    "risk_only",
]
Measured = Callable[[], Tensor] | None  # a risk that is measured only when asked for
Join = Callable[..., tuple[Tensor, ...]]  # (samples, *means over them) → means over the samples of all processes


class Loss(NamedTuple):
    """One step's objective: `value` is differentiated; risk and transport cost of the batch, detached.

    penalty: what the transport cost adds to the value, form(risk, C, λ) − form(risk, 0, λ). transport and penalty are
    None where no transport cost is measured.
    """

    value: Float[Tensor, "*members"]
    risk: Float[Tensor, "*members"]
    transport: Float[Tensor, "*members"] | None
    penalty: Float[Tensor, "*members"] | None = None


@runtime_checkable
class Objective(Protocol):
    """(output or trace, targets) → Loss; `traced` asks for the trace; `after_step` follows the optimiser's step."""

    traced: bool
    looks: bool  # reads the first labels, for which a card waits; off where they are known to be classes
    risk: Risk

    def __call__(self, output: Tensor | Trace, targets: Tensor) -> Loss: ...
    def after_step(self, batch_risk: Measured = None, whole_risk: Measured = None) -> None: ...
    def state_dict(self) -> dict[str, Any]: ...
    def load_state_dict(self, state: dict[str, Any]) -> None: ...


LEVELS = ("batch", "batch_after", "running", "whole")


def alone(samples: int, *means: Tensor) -> tuple[Tensor, ...]:
    """The means of a process that trains alone."""
    return means


class Plain:
    """The risk alone, by default the mean cross-entropy."""

    traced = looks = False

    def __init__(self, risk: Risk | str = cross_entropy, *, join: Join = alone) -> None:
        self.risk, self.join = chosen("Plain", "risk", risk, RISKS), join

    def __call__(self, output: Tensor | Trace, targets: Targets) -> Loss:
        """Risk of the batch; the transport cost is not measured (None)."""
        risk = risk_of("Plain", self.risk, as_trace(output).output, targets)
        return self.step(*self.join(len(targets), risk))

    def step(self, risk: Float[Tensor, "*members"]) -> Loss:
        """The same from a risk, or from one a member of an ensemble."""
        return Loss(risk, risk.detach(), None)

    def after_step(self, batch_risk: Measured = None, whole_risk: Measured = None) -> None:
        """Nothing to update."""

    def state_dict(self) -> dict[str, Any]:
        """Nothing to keep."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Nothing to restore."""


class LeastAction:
    """Least action by the method of multipliers: least transport cost subject to risk 0.

    C = Σ_k ‖v_k‖^p over the blocks, each counted as `convention` says: mean over samples; over features the sum in
    [Karkar2020] eq. (8), the mean in the author code, d times less, so λ and τ do not carry over from one to the other.
    The value is form(risk, C, λ). Every s = `every` steps λ ← λ + growth·L, where `level` says which L:

    - "batch": the batch's risk, before the loss of steps 1, 1 + s, ... is formed (author code, 2020);
    - "running": an exponential mean of batch risks with weight `memory`, at the same moments;
    - "batch_after": the batch's risk, measured again after steps s, 2s, ... (author code, 2019);
    - "whole": the risk on the whole training set after steps s, 2s, ...: λ_{i+1} = λ_i + τ·L(θ_{i+1}), where θ_{i+1}
      comes of s steps of SGD from θ_i, as the method is published.

    growth = 0 is a fixed penalty. λ lives on the device of the risk, in float64; no host synchronisation.
    An L that is NaN or infinite moves nothing: λ stays what it was, and `left_out` counts such steps.
    Source: [Karkar2020].

    In a loop of your own, each optimiser step is: the objective called on `accumulate` batches, their values
    differentiated, the optimiser's step, `after_step()`. ValueError where one of these is missing or comes too early;
    `full` says when all batches have come, `skip` drops a step that is not taken, `loss` measures outside of training.
    accumulate = k > 1: values and penalties are those of the batches over k, so that gradients add up to those of the
    mean; the batches of a step need one size. L is the mean over them, so that with "batch" and "running" λ is the same
    for all of them and moves in `after_step`.
    join: by default the processes of torch's default group, if there is one, move their λ by one L, the mean over the
    samples of all, while each keeps its own value, for DistributedDataParallel to average; `alone` for a λ of its own
    in each process; or a function that joins risk and transport themselves, for gradients that are summed.
    """

    traced = True
    looks = True

    def __init__(
        self,
        risk: Risk | str = cross_entropy,
        *,
        multiplier: float = 1.0,
        growth: float = 1.0,
        every: int = 1,
        p: float = 2.0,
        convention: Convention | str = mean_over_features,
        form: Form | str = divided,
        level: str = "batch",
        memory: float = 0.9,
        accumulate: int = 1,
        join: Join | None = None,
    ) -> None:
        positive("LeastAction", "the multiplier λ0", multiplier)
        not_negative("LeastAction", "the growth τ", growth)
        count("LeastAction", "every (steps from one λ to the next)", every)
        not_negative("LeastAction", "memory", memory)
        if level not in LEVELS:
            raise ValueError(f"LeastAction needs a level out of {', '.join(LEVELS)}; got {level!r}.")
        if memory >= 1:
            raise ValueError(f"LeastAction needs a memory in [0, 1); got {memory}.")
        if join is not None and not callable(join):
            raise ValueError(f"LeastAction needs join as a function (`alone`, say), or None; got {join!r}.")
        check_exponent(p, "LeastAction")
        self.risk = chosen("LeastAction", "risk", risk, RISKS)
        self.form: Form = chosen("LeastAction", "form", form, FORMS)
        self.convention: Convention = chosen("LeastAction", "convention", convention, CONVENTIONS)
        self.growth, self.every, self.p, self.level, self.memory = growth, every, p, level, memory
        self.multiplier = torch.tensor(float(multiplier), dtype=torch.float64)
        self.running = torch.zeros((), dtype=torch.float64)
        self._begun = torch.zeros((), dtype=torch.bool)  # whether the running mean holds a risk
        self.left_out, self.count = torch.zeros((), dtype=torch.int64), 0
        self._window = Window(count("LeastAction", "accumulate (batches of a step)", accumulate))
        self._own_group = join is None
        self.join = alone if join is None else join
        self._before = self.state_dict()

    def __call__(self, output: Tensor | Trace, targets: Targets) -> Loss:
        """Value, risk and transport cost of one batch of a training step; the first one counts the step."""
        if not torch.is_grad_enabled():
            raise ValueError(
                "LeastAction is called without gradients, and a call is a part of a training step, which moves λ. "
                "Measure by its `loss(output, targets)`, which moves nothing."
            )
        self._window.refuse_another()
        measured = self._measure(output, targets)
        return self.step(*self.join(len(targets), *measured), samples=len(targets))

    def step(self, risk: Float[Tensor, "*members"], transport: Float[Tensor, "*members"], *, samples: int = 1) -> Loss:
        """The same from a risk and a transport cost, one each or, with a λ each, one a member of an ensemble."""
        self._window.refuse_another()
        if self.multiplier.device != risk.device:
            for name in ("multiplier", "running", "left_out", "_begun"):
                setattr(self, name, getattr(self, name).to(risk.device, non_blocking=True))
        if self._window.seen == 0:
            self._before = self.state_dict()
            self.count += 1
        self._window.take(risk.detach().double(), samples)
        if self._window.size == 1:
            self._take(self._window.risk())
        loss, size = self._loss(risk, transport), self._window.size
        if size == 1 or loss.penalty is None:
            return loss
        return loss._replace(value=loss.value / size, penalty=loss.penalty / size)

    def loss(self, output: Tensor | Trace, targets: Targets) -> Loss:
        """The same on other samples than those of a training step, at the present λ: nothing moves."""
        risk, transport = self._measure(output, targets)
        return self._loss(risk, transport)

    @property
    def full(self) -> bool:
        """Whether all batches of a step have come: the optimiser's step and `after_step` are due."""
        return self._window.full

    def after_step(self, batch_risk: Measured = None, whole_risk: Measured = None) -> None:
        """To be called after the optimiser's step; a risk is measured only if `level` needs it, now.

        batch_risk: the mean risk on all batches of the step; whole_risk: that on the training set.
        """
        samples = self._window.samples
        if self._window.size > 1 and self._window.full:
            self._take(self._window.risk())
        self._window.close()
        if not self._due or self.level not in ("batch_after", "whole"):
            return
        measure = batch_risk if self.level == "batch_after" else whole_risk
        if measure is None:
            needed = "batch_risk" if self.level == "batch_after" else "whole_risk"
            raise ValueError(f"LeastAction with level={self.level} needs after_step({needed}=...), a function.")
        measured = torch.as_tensor(measure(), dtype=torch.float64).detach()
        self._grow(self._joined(measured, samples if self.level == "batch_after" else 1))

    def skip(self) -> None:
        """Leave out a step that is not taken (a loss that is NaN, a full memory): λ is what it was before it.

        After `after_step`, and before the next call, there is no step to leave out.
        """
        if self._window.seen:
            self.load_state_dict(self._before)

    @property
    def _due(self) -> bool:
        first = 0 if self.level in ("batch_after", "whole") else 1  # after s steps, or before them
        return (self.count - first) % self.every == 0  # `count` has the present step in it

    def _joined(self, level: Tensor, samples: int) -> Tensor:
        return over_processes(level, samples) if self._own_group and self.growth > 0 else level

    def _take(self, level: Tensor) -> None:
        """Move λ and the running mean by the risk of a step, where the level is one of these two."""
        if self.level not in ("batch", "running") or not (self._due or self.level == "running"):
            return
        level = self._joined(level, self._window.samples)
        if self.level == "running":
            finite, weight = level.isfinite(), torch.where(self._begun, 1 - self.memory, 1.0).double()
            mean = (1 - weight) * self.running + weight * level
            self.running, self._begun = torch.where(finite, mean, self.running), self._begun | finite
            level = torch.where(finite, mean, level)
        if self._due:
            self._grow(level)

    def _grow(self, level: Tensor) -> None:
        finite = level.isfinite()
        self.multiplier = torch.where(finite, self.multiplier + self.growth * level, self.multiplier)
        self.left_out = self.left_out + (~finite).long()

    def _measure(self, output: Tensor | Trace, targets: Tensor) -> tuple[Tensor, Tensor]:
        trace = as_trace(output)
        if len(trace.flat_steps) == 0:
            raise ValueError("LeastAction needs the steps of residual blocks; call the model with trace=True.")
        risk = risk_of("LeastAction", self.risk, trace.output, targets, look=self.looks and self.count == 0)
        return risk, transport_cost(trace.flat_steps, p=self.p, convention=self.convention, squares=trace.flat_squares)

    def _loss(self, risk: Tensor, transport: Tensor) -> Loss:
        multiplier = self.multiplier.to(risk.device)
        value, risk, transport = combined(self.form, risk, transport, multiplier), risk.detach(), transport.detach()
        with torch.no_grad():
            penalty = value.detach() - combined(self.form, risk, torch.zeros_like(transport), multiplier)
        return Loss(value, risk, transport, penalty)

    def state_dict(self) -> dict[str, Any]:
        """λ, the running risk, numbers of steps and of those left out; of a step that is not finished nothing."""
        kept = {"multiplier": self.multiplier, "running": self.running, "begun": self._begun, "left_out": self.left_out}
        return kept | {"count": self.count}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the same; the next call begins a step."""
        missing = [name for name in ("multiplier", "running", "count") if name not in state]
        if missing:
            raise ValueError(f"the state of LeastAction lacks {', '.join(missing)}; was it saved by another objective?")
        self.multiplier, self.running = (state[name].detach().double().clone() for name in ("multiplier", "running"))
        self.count = int(state["count"])
        old = {"begun": torch.full_like(self.running, self.count > 0), "left_out": torch.zeros_like(self.running)}
        state = old | state  # earlier versions kept neither
        self._begun, self.left_out = state["begun"].detach().bool().clone(), state["left_out"].detach().long().clone()
        self._window.empty()
