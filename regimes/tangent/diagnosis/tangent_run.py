"""The tangent model of the start, trained on the same samples to the same loss, and where it ends on other points."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from regimes.conventions import square_risk
from regimes.tangent.diagnosis.pair import Pair, evaluated
from regimes.tangent.diagnosis.readings import NotMeasured, Reading, root_ratio
from regimes.tangent.diagnosis.targets import Targets
from regimes.tangent.operator import TangentOperator
from regimes.tangent.regression import GradientFlow
from regimes.tangent.spectrum import merge_outputs

FALL = 0.97  # share of what the derivative foretells by which the risk has to fall in a step
STRAIGHT = 0.99  # the same share, from which on the next step is twice as long
BISECTIONS = 40
STOPPED = "the tangent model stops above the risk of the network, at kinks of the risk or by rounding"
ROWS = 2000  # samples × outputs of a kernel that is decomposed
STEPS = 20_000  # of gradient descent in function space, where the risk is not the square


class TangentRun(NamedTuple):
    """What the tangent model is trained on: all training samples x with their targets; and where it is compared."""

    pair: Pair
    x: Tensor
    targets: Targets
    held_out: Tensor | None
    memory: int

    def disagreement(self, k: int, generator: torch.Generator) -> Reading:
        """‖f_T − f̄‖ / ‖f_T − f_0‖ on held-out points, f̄ the tangent model of the start with the training loss of f_T.

        The tangent model follows its gradient flow on the training samples until its risk is that of the network:
        exactly for the square risk, by gradient descent in function space for others. It starts with the outputs of
        the network.
        """
        pair, targets, n = self.pair, self.targets, len(self.x)
        if self.held_out is None:
            raise NotMeasured("it needs points that were not trained on: pass held_out")
        if pair.normed:
            raise NotMeasured("batch norm mixes the samples that are trained on, so the tangent model has no kernel")
        if n * k > ROWS:
            raise NotMeasured(f"{n:,} training samples × {k} outputs are more than {ROWS:,}, which is solved exactly")
        x, others = self.x.to(pair.x), self.held_out.to(pair.x)
        operator = TangentOperator(pair.start, x, memory=self.memory, caller="diagnose")
        kernel = operator.gram(outputs="full").double()
        across = operator.gram(others, outputs="full").double().permute(1, 0, 3, 2)
        f_0, f_T, other_0, other_T = (
            evaluated(module, inputs).double() for inputs in (x, others) for module in (pair.start, pair.end)
        )
        goal = float(targets.mean_risk(f_T).detach())
        if targets.labels is None and targets.own is None:
            change = _by_square(kernel, across, targets.values.double(), f_0, goal)
        else:
            change = _by_steps(merge_outputs(kernel), merge_outputs(across), targets, f_0, goal)
        tangent = other_0 + change.reshape(len(others), k)
        apart, moved = (other_T - tangent).square().sum(1), (other_T - other_0).square().sum(1)
        return root_ratio(apart, moved, generator, passes=2 * (1 + k) + 3)


def _by_square(kernel: Tensor, across: Tensor, y: Tensor, f_0: Tensor, goal: float) -> Tensor:
    flow = GradientFlow(kernel, y, f_0)
    time = flow.time_to(goal)
    if float(flow.risk(float("inf"))) > 2 * goal + 1e-12 * float(square_risk(f_0, y)):
        raise NotMeasured("the tangent model does not reach the risk of the network")
    return flow.test(float(time), across)


def _by_steps(kernel: Tensor, across: Tensor, targets: Targets, f_0: Tensor, goal: float) -> Tensor:
    """Steps f ← f − s K ∇R(f): the path of the flow, near enough.

    s = n/λ_max, below the bound of stability of cross-entropy. A risk of the caller's own has any size: there s is
    halved until the risk falls nearly by s ⟨∇R, K∇R⟩, doubled after steps that were straight, and the last step ends
    where the risk is that of the network.
    """
    step, duals, f = len(f_0) / float(torch.linalg.matrix_norm(kernel, 2)), torch.zeros_like(f_0), f_0
    risk, slope = targets.slope(f)
    way, promised = _ahead(kernel, slope)
    for _ in range(STEPS):
        if risk <= goal:
            return across @ duals.reshape(-1)
        there, next_slope = targets.slope(f - step * way)
        if targets.own is not None:
            rounding = torch.finfo(targets.own.dtype).eps * abs(risk)
            if not risk - there >= FALL * step * promised - rounding:
                step /= 2
                if step * promised < 4 * rounding:
                    raise NotMeasured(STOPPED)
                continue
            if there < goal:
                step = _reach(lambda s: float(targets.mean_risk(f - s * way).detach()), goal, step)  # noqa: B023
                return across @ (duals - step * slope).reshape(-1)
        duals, f = duals - step * slope, f - step * way
        if targets.own is not None and risk - there >= STRAIGHT * step * promised:
            step *= 2
        risk, slope = there, next_slope
        way, promised = _ahead(kernel, slope)
    raise NotMeasured(f"the tangent model does not reach the risk of the network within {STEPS} steps")


def _ahead(kernel: Tensor, slope: Tensor) -> tuple[Tensor, float]:
    """K∇R and ⟨∇R, K∇R⟩."""
    way = (kernel @ slope.reshape(-1)).reshape(slope.shape)
    return way, float((slope * way).sum())


def _reach(risk: Callable[[float], float], goal: float, step: float) -> float:
    """The length, at most step, at which the risk has come down to the goal, by bisection."""
    short, long = 0.0, step
    for _ in range(BISECTIONS):
        middle = (short + long) / 2
        short, long = (short, middle) if risk(middle) <= goal else (middle, long)
    return long
