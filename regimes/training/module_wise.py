"""What a module minimises in module-wise training: its own risk, and its transport with a fixed weight."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from regimes.checks import positive
from regimes.models.residual import Trace, as_trace
from regimes.modules.targets import Risk, Targets, risk_of
from regimes.training.objectives import Loss, Measured
from regimes.transport.cost import check_exponent
from regimes.transport.energy import Convention, mean_over_features, transport_cost
from regimes.transport.forms import CONVENTIONS, RISKS, chosen


class MinimisingMovement:
    """risk + C/(2τ): one step τ of the minimising movement scheme for the risk, in the distribution of the states.

    C = Σ_k ‖v_k‖^p over the blocks of the module, mean over samples, over features as `convention` says. It is least
    action with λ = 2τ that does not grow. Source: [Karkar2023], with p = 2.
    """

    traced = True
    looks = False

    def __init__(
        self,
        risk: Risk | str = cross_entropy,
        *,
        step: float,
        p: float = 2.0,
        convention: Convention | str = mean_over_features,
    ) -> None:
        positive("MinimisingMovement", "step τ", step, single=True)
        check_exponent(p, "MinimisingMovement")
        self.risk = chosen("MinimisingMovement", "risk", risk, RISKS)
        self.convention: Convention = chosen("MinimisingMovement", "convention", convention, CONVENTIONS)
        self.tau, self.p = step, p

    def __call__(self, output: Tensor | Trace, targets: Targets) -> Loss:
        """Value, risk and transport cost of one batch."""
        trace = as_trace(output)
        if len(trace.flat_steps) == 0:
            raise ValueError("MinimisingMovement needs the steps of residual blocks; take `turns` with trace=True.")
        risk = risk_of("MinimisingMovement", self.risk, trace.output, targets)
        transport = transport_cost(
            trace.flat_steps, p=self.p, convention=self.convention, squares=trace.flat_squares
        ).to(risk)
        penalty = transport / (2 * self.tau)
        return Loss(risk + penalty, risk.detach(), transport.detach(), penalty.detach())

    def after_step(self, batch_risk: Measured = None, whole_risk: Measured = None) -> None:
        """Nothing moves."""

    def state_dict(self) -> dict[str, Any]:
        """Nothing to keep."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Nothing to restore."""


def joined(losses: Sequence[Loss]) -> Loss:
    """One step's loss from those of its modules: the sums of values, transports and penalties, and the last risk.

    That risk is the network's own: the last module's classifier is its head.
    """
    transports = [loss.transport for loss in losses if loss.transport is not None]
    penalties = [loss.penalty for loss in losses if loss.penalty is not None]
    return Loss(
        torch.stack([loss.value for loss in losses]).sum(0),
        losses[-1].risk,
        torch.stack(transports).sum(0) if transports else None,
        torch.stack(penalties).sum(0) if penalties else None,
    )
