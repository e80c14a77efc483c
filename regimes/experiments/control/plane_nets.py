"""Nets of the plane as steps of z' = tanh(K z + b), many at once, with their gradients in closed form.

Layer k of a run:  S_i = tanh(K_k X_i + b_k),  X_i = x_k + h_k Σ_j a_ij S_j,  x_{k+1} = keep·x_k + h_k Σ_i b_i S_i,
for the stages i of an explicit tableau; keep is 1, or 0 for a net without skips. The output is sigmoid(W x_L + μ), and
the risk ½ Σ (output − label)² times a factor. The adjoint of the steps is written out stage by stage: that is the
symplectic partner of the tableau, and equal to back-propagation but for rounding.
Source: [Benning2019].
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from regimes.control.tableau import Tableau

WIDTH = 2


class Net(NamedTuple):
    """Parts of the parameters of some runs, as views."""

    kernel: Float[Tensor, "runs layers 2 2"]
    shift: Float[Tensor, "runs layers 2"]
    steps: Float[Tensor, "runs layers"]
    weights: Float[Tensor, "runs 2"]
    bias: Float[Tensor, " runs"]


def pack(net: Net) -> Float[Tensor, "runs p"]:
    """All parameters of a run in one row."""
    return torch.cat([part.reshape(len(net.bias), -1) for part in net], 1)


def unpack(theta: Float[Tensor, "runs p"]) -> Net:
    """The parts of such rows; p = 7 L + 3."""
    runs, layers = len(theta), (theta.shape[1] - WIDTH - 1) // (WIDTH * WIDTH + WIDTH + 1)
    sizes = [layers * WIDTH * WIDTH, layers * WIDTH, layers, WIDTH, 1]
    kernel, shift, steps, weights, bias = theta.split(sizes, 1)
    return Net(
        kernel.view(runs, layers, WIDTH, WIDTH), shift.view(runs, layers, WIDTH), steps, weights, bias.squeeze(1)
    )


class Passed(NamedTuple):
    """What a forward pass leaves: states before each layer and at the end, stage points and slopes by layer, outputs.

    In a plane the samples come last. at[k][i] is X_i of layer k, slopes[k][i] its S_i.
    """

    states: list[Tensor]
    at: list[list[Tensor]]
    slopes: list[list[Tensor]]
    outputs: Float[Tensor, "runs n"]


@dataclass(frozen=True)
class PlaneNets:
    """Runs with samples of their own: which keep the state (skips), which learn their steps, and the risk's factor."""

    tableau: Tableau
    x: Float[Tensor, "runs 2 n"]
    labels: Float[Tensor, "runs n"]
    keep: Bool[Tensor, " runs"]
    learned: Bool[Tensor, " runs"]
    factor: float

    def forward(self, net: Net, runs: Int[Tensor, " some"], x: Float[Tensor, "some 2 n"] | None = None) -> Passed:
        """The states of these runs at their own samples, or at others."""
        a, b = self.tableau.a, self.tableau.b
        keep = self.keep[runs]
        factor = None if bool(keep.all()) else keep.to(net.steps.dtype)[:, None, None]
        states, at, slopes = [_of(self.x, runs) if x is None else x], [], []
        for layer in range(net.steps.shape[1]):
            kernel, shift = 2 * net.kernel[:, layer], 2 * net.shift[:, layer, :, None]
            size = net.steps[:, layer, None, None]
            z, found, places = states[-1], [], []
            for row in a:
                lead = _sum(row, found)
                places.append(z if lead is None else torch.addcmul(z, lead, size))
                # tanh s = 2 sigmoid(2 s) − 1, to rounding: a quarter of the time of tanh.
                found.append(torch.baddbmm(shift, kernel, places[-1]).sigmoid_().mul_(2).sub_(1))
            states.append(torch.addcmul(z if factor is None else z * factor, _total(b, found), size))
            at.append(places)
            slopes.append(found)
        outputs = torch.baddbmm(net.bias[:, None, None], net.weights[:, None], states[-1]).squeeze(1).sigmoid_()
        return Passed(states, at, slopes, outputs)

    def __call__(
        self, theta: Float[Tensor, "some p"], runs: Int[Tensor, " some"]
    ) -> tuple[Float[Tensor, " some"], Callable[[Tensor], Tensor]]:
        """Risks, and their gradients for a part of the runs."""
        net = unpack(theta)
        passed = self.forward(net, runs)
        gaps = passed.outputs - _of(self.labels, runs)
        return gaps.square().sum(1) * (self.factor / 2), lambda chosen: self._pull(net, runs, passed, gaps, chosen)

    def _pull(
        self, net: Net, runs: Int[Tensor, " some"], passed: Passed, gaps: Float[Tensor, "some n"], chosen: Tensor
    ) -> Float[Tensor, "chosen p"]:
        a, b = self.tableau.a, self.tableau.b
        net, at = Net(*(_of(part, chosen) for part in net)), runs[chosen]
        output = _of(passed.outputs, chosen)
        gap = self.factor * _of(gaps, chosen) * output * (1 - output)
        last = _of(passed.states[-1], chosen)
        weights, bias = torch.bmm(last, gap[:, :, None]).squeeze(2), gap.sum(1)
        back = net.weights[:, :, None] * gap[:, None]
        keep = self.keep[at]
        factor = None if bool(keep.all()) else keep.to(back.dtype)[:, None, None]
        kernels, shifts, steps = [], [], []
        for layer in reversed(range(net.steps.shape[1])):
            slopes = [_of(each, chosen) for each in passed.slopes[layer]]
            places = [_of(each, chosen) for each in passed.at[layer]]
            kernel, size = net.kernel[:, layer].mT, net.steps[:, layer, None, None]
            of_places: list[Tensor | None] = [None] * len(b)
            of_kernel, of_shift, of_step = 0.0, 0.0, (back * _total(b, slopes)).sum((1, 2))
            for i in reversed(range(len(b))):
                later = _sum([row[i] for row in a], of_places)
                pulled = back * b[i] if later is None else torch.add(later, back, alpha=b[i])
                inner = torch.addcmul(pulled, pulled * slopes[i], slopes[i], value=-1).mul_(size)
                of_kernel = torch.bmm(inner, places[i].mT) + of_kernel
                of_shift = inner.sum(2) + of_shift
                of_places[i] = through = torch.bmm(kernel, inner)
                if (lead := _sum(a[i], slopes)) is not None:
                    of_step = of_step + (through * lead).sum((1, 2))
            back = _total([1.0] * len(b), of_places) + (back if factor is None else back * factor)
            kernels.append(of_kernel)
            shifts.append(of_shift)
            steps.append(of_step)
        found = torch.stack(steps[::-1], 1) * self.learned[at, None]
        return pack(Net(torch.stack(kernels[::-1], 1), torch.stack(shifts[::-1], 1), found, weights, bias))


def _of(part: Tensor, chosen: Tensor) -> Tensor:
    """Some of the runs; the tensor itself where all are asked for."""
    return part if len(chosen) == len(part) else part[chosen]


def _sum(weights: Sequence[float], terms: Sequence[Tensor | None]) -> Tensor | None:
    """Σ weights·terms over those that are there and weigh something; None if there are none."""
    there = [(weight, term) for weight, term in zip(weights, terms, strict=False) if weight and term is not None]
    if not there:
        return None
    (weight, found), *others = there
    found = found if weight == 1 else found * weight
    for weight, term in others:
        found = torch.add(found, term, alpha=weight)
    return found


def _total(weights: Sequence[float], terms: Sequence[Tensor | None]) -> Tensor:
    """The same of terms of which at least one is there."""
    found = _sum(weights, terms)
    assert found is not None
    return found
