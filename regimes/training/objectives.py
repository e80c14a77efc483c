"""What training minimises: the risk alone, or the least-action objective with its multiplier λ."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import cross_entropy

from regimes.checks import count, not_negative, positive
from regimes.models.residual import Trace, as_trace
from regimes.transport.cost import check_exponent
from regimes.transport.energy import Convention, mean_over_features, sum_over_features, transport_cost

Risk = Callable[[Tensor, Tensor], Tensor]
Targets = Int[Tensor, "n *place"] | Float[Tensor, "n *target"]  # class labels, or numbers of the output's shape
Form = Callable[[Tensor, Tensor, Tensor], Tensor]
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
    risk: Risk

    def __call__(self, output: Tensor | Trace, targets: Tensor) -> Loss: ...
    def after_step(self, batch_risk: Measured = None, whole_risk: Measured = None) -> None: ...
    def state_dict(self) -> dict[str, Any]: ...
    def load_state_dict(self, state: dict[str, Any]) -> None: ...


def divided(risk: Tensor, transport: Tensor, multiplier: Tensor) -> Tensor:
    """risk + transport/λ: the objective divided by λ, steps of one size. Source: author code of [Karkar2020], 2020."""
    return risk + transport / multiplier


def multiplied(risk: Tensor, transport: Tensor, multiplier: Tensor) -> Tensor:
    """transport + λ·risk: the method of multipliers as written. Source: [Karkar2020] section 3, author code of 2019."""
    return transport + multiplier * risk


def risk_only(risk: Tensor, transport: Tensor, multiplier: Tensor) -> Tensor:
    """λ·risk: the control that takes the multiplier's larger steps and leaves the transport out."""
    return multiplier * risk


FORMS: dict[str, Form] = {"divided": divided, "multiplied": multiplied, "risk_only": risk_only}
RISKS: dict[str, Risk] = {"cross_entropy": cross_entropy}
CONVENTIONS: dict[str, Convention] = {
    "mean_over_features": mean_over_features,
    "sum_over_features": sum_over_features,
}
LEVELS = ("batch", "batch_after", "running", "whole")


def alone(samples: int, *means: Tensor) -> tuple[Tensor, ...]:
    """The means of a process that trains alone."""
    return means


def _mean(caller: str, risk: Tensor) -> Tensor:
    if risk.ndim > 0:
        raise ValueError(f"{caller} needs a risk that is one number, a mean; got shape {tuple(risk.shape)}.")
    return risk


def chosen(caller: str, what: str, given: Any, known: Mapping[str, Callable[..., Any]]) -> Callable[..., Any]:
    """A function, or the one of that name; ValueError lists the names."""
    if isinstance(given, str) and given in known:
        return known[given]
    if isinstance(given, str) or not callable(given):
        raise ValueError(f"{caller} needs {what} as one of {', '.join(known)}, or a function; got {given!r}.")
    return given


def refuse_misfit(caller: str, outputs: Tensor, targets: Tensor) -> None:
    """ValueError unless targets are labels, one for each place of the output, or have the output's own shape.

    Risks broadcast: targets (n,) against outputs (n, 1) would be compared all with all. Reads shapes only.
    """
    labels = (*outputs.shape[:1], *outputs.shape[2:])
    right = targets.shape == outputs.shape or (not targets.is_floating_point() and tuple(targets.shape) == labels)
    if not right or outputs.is_complex() or not outputs.is_floating_point():
        kind = "numbers" if targets.is_floating_point() else "labels"
        raise ValueError(
            f"{caller} needs targets as labels of shape {labels} (integers), or as numbers of the output's shape "
            f"{tuple(outputs.shape)}; got {kind} of shape {tuple(targets.shape)}, output {outputs.dtype}. Reshape them."
        )


class Plain:
    """The risk alone, by default the mean cross-entropy."""

    traced = False

    def __init__(self, risk: Risk | str = cross_entropy, *, join: Join = alone) -> None:
        self.risk, self.join = chosen("Plain", "risk", risk, RISKS), join

    def __call__(self, output: Tensor | Trace, targets: Targets) -> Loss:
        """Risk of the batch; the transport cost is not measured (None)."""
        outputs = as_trace(output).output
        refuse_misfit("Plain", outputs, targets)
        return self.step(*self.join(len(targets), _mean("Plain", self.risk(outputs, targets))))

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
    The value is form(risk, C, λ). Every `every` steps λ ← λ + growth·L, where `level` says which L:

    - "batch": the batch's risk, before the loss is formed (author code, 2020);
    - "batch_after": the same batch's risk, measured again after the step (author code, 2019);
    - "running": an exponential mean of batch risks with weight `memory`, before the loss is formed;
    - "whole": the risk on the whole training set, after the step.

    growth = 0 is a fixed penalty. λ lives on the device of the risk, in float64; no host synchronisation. Calling the
    objective is one training step: it counts, and may move λ. `loss` is the same without.
    Source: [Karkar2020].
    """

    traced = True

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
        join: Join = alone,
    ) -> None:
        positive("LeastAction", "the multiplier λ0", multiplier)
        not_negative("LeastAction", "the growth τ", growth)
        count("LeastAction", "every, steps between two updates of λ,", every)
        not_negative("LeastAction", "memory", memory)
        if level not in LEVELS:
            raise ValueError(f"LeastAction needs a level out of {', '.join(LEVELS)}; got {level!r}.")
        if memory >= 1:
            raise ValueError(f"LeastAction needs a memory in [0, 1); got {memory}.")
        check_exponent(p)
        self.risk, self.join = chosen("LeastAction", "risk", risk, RISKS), join
        self.form: Form = chosen("LeastAction", "form", form, FORMS)
        self.convention: Convention = chosen("LeastAction", "convention", convention, CONVENTIONS)
        self.growth, self.every, self.p, self.level, self.memory = growth, every, p, level, memory
        self.multiplier = torch.tensor(float(multiplier), dtype=torch.float64)
        self.running = torch.zeros((), dtype=torch.float64)
        self.count = 0

    def __call__(self, output: Tensor | Trace, targets: Targets) -> Loss:
        """Value, risk and transport cost of one batch of a training step; counts the step and updates λ when due."""
        return self.step(*self.join(len(targets), *self._measure(output, targets)))

    def step(self, risk: Float[Tensor, "*members"], transport: Float[Tensor, "*members"]) -> Loss:
        """The same from a risk and a transport cost, one each or, with a λ each, one a member of an ensemble."""
        if self.multiplier.device != risk.device:
            self.multiplier, self.running = self.multiplier.to(risk.device), self.running.to(risk.device)
        level = risk.detach().double()
        if self.level == "running":
            weight = 1 - self.memory if self.count else 1.0
            self.running = level = (1 - weight) * self.running + weight * level
        self.count += 1
        if self._due and self.level in ("batch", "running"):
            self.multiplier = self.multiplier + self.growth * level
        return self._loss(risk, transport)

    def loss(self, output: Tensor | Trace, targets: Targets) -> Loss:
        """The same on other samples than those of a training step, at the present λ: nothing moves."""
        risk, transport = self._measure(output, targets)
        return self._loss(risk, transport)

    def after_step(self, batch_risk: Measured = None, whole_risk: Measured = None) -> None:
        """To be called after the optimiser's step; a risk is measured only if `level` needs it, now."""
        if not self._due or self.level not in ("batch_after", "whole"):
            return
        measure = batch_risk if self.level == "batch_after" else whole_risk
        if measure is None:
            needed = "batch_risk" if self.level == "batch_after" else "whole_risk"
            raise ValueError(
                f"LeastAction with level={self.level} needs after_step({needed}=...), a function; got none."
            )
        self.multiplier = self.multiplier + self.growth * measure().detach().double()

    @property
    def _due(self) -> bool:
        return (self.count - 1) % self.every == 0  # `count` has the present step in it

    def _measure(self, output: Tensor | Trace, targets: Tensor) -> tuple[Tensor, Tensor]:
        trace = as_trace(output)
        if len(trace.flat_steps) == 0:
            raise ValueError("LeastAction needs the steps of residual blocks; call the model with trace=True.")
        refuse_misfit("LeastAction", trace.output, targets)
        risk = _mean("LeastAction", self.risk(trace.output, targets))
        return risk, transport_cost(trace.flat_steps, p=self.p, convention=self.convention)

    def _loss(self, risk: Tensor, transport: Tensor) -> Loss:
        multiplier = self.multiplier.to(risk)
        value, risk, transport = self.form(risk, transport, multiplier), risk.detach(), transport.detach()
        with torch.no_grad():
            penalty = value.detach() - self.form(risk, torch.zeros_like(transport), multiplier)
        return Loss(value, risk, transport, penalty)

    def state_dict(self) -> dict[str, Any]:
        """λ, the running risk, the number of steps."""
        return {"multiplier": self.multiplier, "running": self.running, "count": self.count}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the same."""
        missing = [name for name in self.state_dict() if name not in state]
        if missing:
            raise ValueError(
                f"the saved state of LeastAction lacks {', '.join(missing)}; was it saved by another objective?"
            )
        self.multiplier, self.running = (state[name].detach().double().clone() for name in ("multiplier", "running"))
        self.count = int(state["count"])
