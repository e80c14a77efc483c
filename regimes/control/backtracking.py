"""Gradient descent with backtracking of many runs at once: each has its own step, and its own count of iterations.

A trial moves θ by d = P(θ − s g) − θ, with s the step, g the gradient, P a projection or the identity. It is taken if
    f(θ + d) ≤ f(θ) + share·⟨g, d⟩ + curvature·‖d‖²/(2 s),
and the step grows; else the run stays where it is, and the step shrinks. A value or gradient that is not finite is
never taken.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from regimes.checks import fraction, function, given, kind, not_negative, positive, real, shapes
from regimes.errors import RunFailed

Pull = Callable[[Int[Tensor, " chosen"]], Float[Tensor, "chosen p"]]
# (θ of some runs, which runs they are) → (values, the gradients of those that are asked for, by place among these).
Objective = Callable[[Float[Tensor, "some p"], Int[Tensor, " some"]], tuple[Float[Tensor, " some"], Pull]]


class Rule(NamedTuple):
    """When a trial is taken, and how the step changes after it.

    first: the step of the first trial; longer, shorter: its factors after a trial that is taken or refused, longer at
    least 1 and shorter below 1; longest: its bound. share: from 0 to 1; beyond 1 no short step is ever taken.
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
_STATE = ("params", "values", "gradients", "steps", "iterations", "trials")


def require_rule(caller: str, rule: Rule) -> None:
    """Refuse a rule by which a step would grow after a refusal, shrink after a success, or never be taken."""
    kind(caller, "rule", rule, Rule, "a Rule such as UPPER_BOUND")
    positive(caller, "first step", rule.first, single=True)
    fraction(caller, "shorter", rule.shorter)
    positive(caller, "longest", rule.longest, infinite=True, single=True)
    for name in ("longer", "share", "curvature"):
        not_negative(caller, name, getattr(rule, name), single=True)
    if rule.longer < 1:
        raise ValueError(f"{caller} needs longer as a factor of at least 1; got {rule.longer}. Change longer.")
    if rule.first > rule.longest:
        raise ValueError(f"{caller} needs first step of at most longest, {rule.longest}; got {rule.first}. Change one.")
    if rule.share > 1:
        raise ValueError(f"{caller} needs share as a number of at most 1; got {rule.share}. Change share.")


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
        given("Descent", objective=objective)
        function("Descent", objective=objective, project=project)
        require_rule("Descent", rule)
        self.objective, self.rule, self.project = objective, rule, project
        self.every = torch.arange(len(start), device=start.device)
        self.params = start.detach().clone()
        found = objective(self.params, self.every)
        if not isinstance(found, tuple) or len(found) != 2 or not callable(found[1]):
            raise ValueError(
                "Descent needs an objective that gives the values of runs, and a function that gives their gradients; "
                f"got {type(found).__name__}. Return (values, pull)."
            )
        values, pull = found
        gradients = pull(self.every)
        cure = "The objective gives one value a run, and the gradients of the runs that are asked for"
        shapes("Descent", start=(start, "runs p"), values=(values, "runs"), cure=cure)
        shapes("Descent", start=(start, "runs p"), gradients=(gradients, "runs p"), cure=cure)
        self.values, self.gradients = values.detach().clone(), gradients.detach().clone()  # they are written into
        if not bool(self.values.isfinite().all()) or not bool(self.gradients.isfinite().all()):
            raise RunFailed("Descent needs a finite value and gradient at the start. Change the start.")
        self.steps = torch.full_like(self.values, rule.first)
        self.iterations = torch.zeros(len(start), dtype=torch.int64, device=start.device)
        self.trials = torch.zeros_like(self.iterations)

    @torch.no_grad()
    def trial(self, runs: Int[Tensor, " some"]) -> Int[Tensor, " taken"]:
        """One trial of each of these runs, by their numbers, each once and in any order; which were taken."""
        rule, whole = self.rule, self._whole(runs)
        theta, slope, step, value = (
            each if whole else each[runs] for each in (self.params, self.gradients, self.steps, self.values)
        )
        moved = torch.addcmul(theta, slope, step[:, None], value=-1)
        if self.project is not None:
            there = moved.isfinite().all(1)  # where a step is beyond all numbers there is nothing to project
            if bool(there.any()):
                of = slice(None) if bool(there.all()) else there
                projected = self.project(moved[of], runs[of])
                shapes("Descent", moved=(moved[of], "runs p"), projected=(projected, "runs p"))
                moved[of] = projected
        change = moved - theta
        allowed = rule.share * (slope * change).sum(1) + rule.curvature * change.square().sum(1) / (2 * step)
        found, pull = self.objective(moved, runs)
        shapes("Descent", values=(found, f"{len(runs)}"))
        taken = (found <= value + allowed) & found.isfinite()
        if bool(taken.any()):
            places = taken.nonzero().squeeze(1)
            slopes = pull(places)
            shapes("Descent", gradients=(slopes, f"{len(places)} {theta.shape[1]}"))
            finite = slopes.isfinite().all(1)
            taken[places[~finite]] = False
            of, kept = runs[places[finite]], places[finite]
            self.params[of], self.values[of], self.gradients[of] = moved[kept], found[kept], slopes[finite]
            self.iterations[of] += 1
        self.trials[runs] += 1
        self.steps[runs] = torch.where(taken, (step * rule.longer).clamp(max=rule.longest), step * rule.shorter)
        return runs[taken]

    def _whole(self, runs: Tensor) -> bool:
        """Whether these are all runs in their order; refuses what does not name runs, each once."""
        cure = "Name each run once, by its number"
        shapes("Descent.trial", runs=(runs, "some"), cure=cure)
        right = runs.dtype == torch.int64
        if right and torch.equal(runs, self.every):
            return True
        if not right or len(runs.unique()) < len(runs) or not bool(torch.isin(runs, self.every).all()):
            last = len(self.every) - 1
            raise ValueError(f"Descent.trial needs runs as different whole numbers, 0 to {last}; got {runs}. {cure}.")
        return False

    def state_dict(self) -> dict[str, Any]:
        """Parameters, values, gradients, steps and counts."""
        return {name: getattr(self, name) for name in _STATE}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Put the same back. ValueError: other names, or tensors of another shape or dtype."""
        kind("Descent", "state", state, Mapping, "a dict such as state_dict gives")
        if set(state) != set(_STATE):
            raise ValueError(
                f"Descent needs a state of {', '.join(_STATE)}; got {', '.join(map(str, state)) or 'none'}."
            )
        for name, value in state.items():
            own = getattr(self, name)
            if not isinstance(value, Tensor) or value.shape != own.shape or value.dtype != own.dtype:
                got = f"{tuple(value.shape)} {value.dtype}" if isinstance(value, Tensor) else type(value).__name__
                raise ValueError(f"Descent needs {name} of {tuple(own.shape)} {own.dtype}; got {got}.")
        for name, value in state.items():
            getattr(self, name).copy_(value)
