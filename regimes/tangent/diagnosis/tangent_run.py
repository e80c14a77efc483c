"""The tangent model of the start, trained on the same samples to the same loss, and where it ends on other points."""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import cross_entropy

from regimes.conventions import square_risk
from regimes.tangent.diagnosis.pair import Pair, evaluated
from regimes.tangent.diagnosis.readings import NotMeasured, Reading, root_ratio
from regimes.tangent.operator import TangentOperator
from regimes.tangent.regression import GradientFlow
from regimes.tangent.spectrum import merge_outputs

ROWS = 2000  # samples × outputs of a kernel that is decomposed
STEPS = 20_000  # of gradient descent in function space, where targets are labels


class Targets(NamedTuple):
    """y as numbers (n, k), one-hot for class labels; labels: None for the square risk."""

    values: Float[Tensor, "n k"]
    labels: Int[Tensor, " n"] | None

    def risks(self, outputs: Float[Tensor, "n k"]) -> Float[Tensor, " n"]:
        """The risk of each sample: cross-entropy of labels, else half the square."""
        if self.labels is not None:
            return cross_entropy(outputs, self.labels, reduction="none")
        return (outputs - self.values).square().sum(1) / 2


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
        exactly for the square risk, by gradient descent in function space for cross-entropy. It starts with the outputs
        of the network.
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
        goal = float(targets.risks(f_T).mean())
        if targets.labels is None:
            change = _by_square(kernel, across, targets.values.double(), f_0, goal)
        else:
            change = _by_entropy(merge_outputs(kernel), merge_outputs(across), targets, f_0, goal)
        tangent = other_0 + change.reshape(len(others), k)
        apart, moved = (other_T - tangent).square().sum(1), (other_T - other_0).square().sum(1)
        return root_ratio(apart, moved, generator, passes=2 * (1 + k) + 3)


def _by_square(kernel: Tensor, across: Tensor, y: Tensor, f_0: Tensor, goal: float) -> Tensor:
    flow = GradientFlow(kernel, y, f_0)
    time = flow.time_to(goal)
    if float(flow.risk(float("inf"))) > 2 * goal + 1e-12 * float(square_risk(f_0, y)):
        raise NotMeasured("the tangent model does not reach the risk of the network")
    return flow.test(float(time), across)


def _by_entropy(kernel: Tensor, across: Tensor, targets: Targets, f_0: Tensor, goal: float) -> Tensor:
    """Steps f ← f − s K ∇R(f), with s below the bound of stability: the path of the flow, near enough."""
    n, k = f_0.shape
    largest = float(torch.linalg.matrix_norm(kernel, 2))
    step, duals, f = n / largest, torch.zeros(n * k, dtype=kernel.dtype, device=kernel.device), f_0
    for _ in range(STEPS):
        if float(targets.risks(f).mean()) <= goal:
            return across @ duals
        duals = duals + step * (targets.values - f.softmax(1)).reshape(-1) / n
        f = f_0 + (kernel @ duals).reshape(n, k)
    raise NotMeasured(f"the tangent model does not reach the risk of the network within {STEPS} steps")
