"""Attacks: for each image the smallest change found, in the Euclidean norm, that brings a net to a wrong class.

One attack is made here, the others are foolbox's: projected gradients at each size, DeepFool, and decoupled direction
and norm. Whoever found a change, it counts by what it is: the changed image lies in [0, 1], the net in float64 gets
another class than the label, and the size is measured in float64.
"""

import copy
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import one_hot

from regimes.experiments.control.contractive_robustness.nets import need

Images = Float[Tensor, "n channels height width"]


def smallest_changes(
    net: nn.Module, x: Images, labels: Int[Tensor, " n"], epsilons: Sequence[float], attacks: Sequence[str], steps: int
) -> Float[Tensor, " n"]:
    """The size of the smallest change found by any attack; 0 for images that are wrong as they are, inf for none."""
    exact = copy.deepcopy(net).double().eval()
    found = torch.where(_wrong(exact, x.double(), labels), 0.0, torch.inf).double()
    for changed in _tried(net.eval(), x, labels, epsilons, attacks, steps):
        changed = changed.detach().double().clamp(0, 1)
        size = (changed - x.double()).flatten(1).norm(dim=1)
        found = torch.where(_wrong(exact, changed, labels), found.minimum(size), found)
    return found


@torch.no_grad()
def _wrong(exact: nn.Module, x: Tensor, labels: Tensor) -> Tensor:
    return exact(x).argmax(1) != labels


def _tried(
    net: nn.Module, x: Images, labels: Tensor, epsilons: Sequence[float], attacks: Sequence[str], steps: int
) -> Iterator[Images]:
    """What the attacks come up with."""
    for epsilon in epsilons:
        yield ascend(net, x, labels, epsilon, steps)
    if not attacks:
        return
    foolbox: Any = need("foolbox")
    model = foolbox.PyTorchModel(net, bounds=(0, 1), device="cpu")
    made = {
        "pgd": lambda: foolbox.attacks.L2ProjectedGradientDescentAttack(steps=steps),
        "deepfool": lambda: foolbox.attacks.L2DeepFoolAttack(steps=steps),
        "ddn": lambda: foolbox.attacks.DDNAttack(steps=2 * steps),
    }
    for name in attacks:
        sizes = list(epsilons) if name == "pgd" else [None]  # the others look for the smallest themselves
        raw, *_ = made[name]()(model, x, labels, epsilons=sizes)
        yield from raw


def ascend(net: nn.Module, x: Images, labels: Tensor, epsilon: float, steps: int) -> Images:
    """Gradient steps of length 2.5 ε/steps on the margin, each followed by a return to the ball and to [0, 1].

    The margin is the largest wrong output less the right one; what is returned are the last images.
    """
    right = one_hot(labels, int(net(x[:1]).shape[1])).bool()
    changed = x.clone()
    for _ in range(steps):
        changed.requires_grad_()
        outputs = net(changed)
        margin = outputs.masked_fill(right, -torch.inf).amax(1) - outputs[right]
        (slope,) = torch.autograd.grad(margin.sum(), changed)
        with torch.no_grad():
            moved = changed + 2.5 * epsilon / steps * slope / _size(slope)
            away = moved - x
            changed = (x + away * (epsilon / _size(away)).clamp(max=1) * (1 - 1e-6)).clamp(0, 1)
    return changed.detach()


def _size(change: Tensor) -> Tensor:
    """Norm of each image's change, (n, 1, 1, 1), above 0."""
    return change.flatten(1).norm(dim=1).clamp(min=1e-30)[:, None, None, None]
