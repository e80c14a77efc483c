"""Gradient descent with backtracking of many runs at once: each has its own step, and its own count of iterations.

A trial moves θ by d = P(θ − s g) − θ, with s the step, g the gradient, P a projection or the identity. It is taken if
    f(θ + d) ≤ f(θ) + share·⟨g, d⟩ + curvature·‖d‖²/(2 s),
and the step grows; else the run stays where it is, and the step shrinks. A value that is not finite is never taken.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from regimes.checks import function, positive, real, shapes
from regimes.errors import RunFailed

Pull = Callable[[Int[Tensor, " chosen"]], Float[Tensor, "chosen p"]]
# (θ of some runs, which runs they are) → (values, the gradients of those that are asked for, by place among these).
Objective = Callable[[Float[Tensor, "some p"], Int[Tensor, " some"]], tuple[Float[Tensor, " some"], Pull]]


class Rule(NamedTuple):
    """When a trial is taken, and how the step changes after it.

    first: the step of the first trial; longer, shorter: its factors after a trial that is taken or refused; longest:
    its bound.
    """

    first: float
    longer: float
    shorter: float
    share: float
    curvature: float
    longest: float = float("inf")


# f is below its quadratic model of curvature 1/s. Without projection this is ARMIJO's rule with share ½.
# Source: [Benning2019], numbers from the author code.
UPPER_BOUND = Rule(first=10.0, longer=1 / 0.99, shorter=1 / 1.5, share=1.0, curvature=1.0)
# f falls by a share of what the gradient promises. Source: [Benning2019], numbers from the author code.
ARMIJO = Rule(first=0.1, longer=2.0, shorter=0.5, share=0.4, curvature=0.0, longest=10.0)


class Descent:
    """Where the descent of some runs stands: all that the next trial depends on.

    values, gradients: f and its gradient at the present θ; iterations: trials taken; trials: all of them.
    """

    def __init__(
        self,
        objective: Objective,
        start: Float[Tensor, "runs p"],
        rule: Rule,
        project: Callable[[Tensor, Int[Tensor, " some"]], Tensor] | None = None,
    ) -> None:
        shapes("Descent", start=(start, "runs p"))
        real("Descent", start=start)
        function("Descent", objective=objective)
        positive("Descent", "first step", rule.first, single=True)
        self.objective, self.rule, self.project = objective, rule, project
        every = torch.arange(len(start), device=start.device)
        self.params = start.detach().clone()
        self.values, pull = objective(self.params, every)
        self.gradients = pull(every)
        if not bool(self.values.isfinite().all()) or not bool(self.gradients.isfinite().all()):
            raise RunFailed("Descent needs a finite value and gradient at the start. Change the start.")
        self.steps = torch.full_like(self.values, rule.first)
        self.iterations = torch.zeros(len(start), dtype=torch.int64, device=start.device)
        self.trials = torch.zeros_like(self.iterations)

    @torch.no_grad()
    def trial(self, runs: Int[Tensor, " some"]) -> Int[Tensor, " taken"]:
        """One trial of each of these runs; which were taken."""
        rule, whole = self.rule, len(runs) == len(self.values)
        theta, slope, step, value = (
            each if whole else each[runs] for each in (self.params, self.gradients, self.steps, self.values)
        )
        moved = torch.addcmul(theta, slope, step[:, None], value=-1)
        if self.project is not None:
            moved = self.project(moved, runs)
        change = moved - theta
        allowed = rule.share * (slope * change).sum(1) + rule.curvature * change.square().sum(1) / (2 * step)
        found, pull = self.objective(moved, runs)
        taken = found <= value + allowed  # false for NaN
        places = taken.nonzero().squeeze(1)
        self.trials[runs] += 1
        self.steps[runs] = torch.where(taken, (step * rule.longer).clamp(max=rule.longest), step * rule.shorter)
        of = runs[places]
        if len(of):
            self.params[of], self.values[of] = moved[places], found[places]
            self.gradients[of] = pull(places)
            self.iterations[of] += 1
        return of

    def state_dict(self) -> dict[str, Any]:
        """Parameters, values, gradients, steps and counts."""
        names = ("params", "values", "gradients", "steps", "iterations", "trials")
        return {name: getattr(self, name) for name in names}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Put the same back."""
        for name, value in state.items():
            getattr(self, name).copy_(value)
