"""How far a network can change its answer: proved Lipschitz constants, and the radius within which a class stays.

Constants multiply along a composition, add along a sum, and are proved for each kind of layer by itself; a network of
ordinary layers has a constant too, mostly a useless one. A layer that has no known constant is refused.

If f_i − f_j is L_ij-Lipschitz for all classes and f_i(x) is the largest output, no δ with ‖δ‖ < min_j (f_i − f_j)/L_ij
changes the class. In general L_ij = √2·Lip(f). Where f = V g + b ends in a linear layer, ‖v_i − v_j‖·Lip(g) ≤
√2 ‖V‖ Lip(g) is used instead. Source: [TsuzukuSato2018] for √2, [SinglaFeizi2022] for rows of the last layer.
"""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from math import inf
from sys import float_info

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from regimes.checks import count, finite, not_negative, positive, real, shapes
from regimes.errors import one_line, out_of_memory
from regimes.models.contractive import UP
from regimes.models.layer_bounds import (
    layer_bound,
    parts_of,
    product_bound,
    require_finite,
    require_own_layers,
    weight_of,
)
from regimes.models.norm_bounds import TINY, gamma
from regimes.modules import tensor_of, without_autocast
from regimes.modules.modes import eval_mode
from regimes.modules.targets import Risk, refuse_misfit

# Of outputs in float64, whose rounding in a network of this size is some 1e-13; it is taken off each margin.
ROUNDING = 1e-9
ROUNDED = 1e-13  # of the length of what a layer takes and makes; what follows can enlarge it as its constants say


def lipschitz_bound(model: nn.Module) -> float:
    """A number L with ‖f(x) − f(x')‖ ≤ L‖x − x'‖ for all inputs, in eval mode; proved for the weights as they are.

    It speaks of exact arithmetic on these weights. Norms are those of `norm_bound`, steps and scales those that the
    model computes in its precision: take model.double() for a constant that rounding of a step does not move above 1.
    ValueError names a layer whose constant is not known: one of another class than those that have a rule here, or one
    that hooks or a forward of its own may have changed; and weights that are not finite.
    """
    require_own_layers("lipschitz_bound", model)
    with eval_mode(model), torch.no_grad():
        return layer_bound(model)


@torch.no_grad()
def class_bounds(model: nn.Module) -> float | Float[Tensor, "k k"]:
    """L_ij, above the Lipschitz constants of the differences f_i − f_j: one number for all pairs, or a matrix."""
    require_own_layers("class_bounds", model)
    with eval_mode(model):
        parts = parts_of(model)
        weight = weight_of(parts[-1]) if parts else None
        if weight is None:
            return require_finite(2**0.5 * layer_bound(model) * UP, model)
        weight = weight.double()
        squares = torch.stack([(weight - row).square().sum(1) for row in weight])  # all at once take k² d numbers
        terms = weight.shape[1]
        apart = ((squares + terms * 2.0**-1074) * (1 + gamma(terms))).sqrt()  # of each term, what underflow has lost
        found = apart * require_finite(product_bound(parts[:-1]), model) * UP + TINY
        require_finite(float(found.amax()), model)
        return found


@torch.no_grad()
def certified_radius(
    model: nn.Module, x: Float[Tensor, "n *feature"], *, deviation: float = 1.0, batch: int = 500
) -> Float[Tensor, " n"]:
    """For each input a radius within which the network's class cannot change, whatever the change of the input.

    min_j (f_i − f_j)/L_ij·deviation, i the class; by a copy of the model in float64, on the CPU, in eval mode. A change
    as long as the radius itself may make another class equal, not larger. deviation: if x = (image − mean)/deviation,
    the radius is in units of the image; of several channels the smallest deviation.
    """
    require_own_layers("certified_radius", model)
    count("certified_radius", "batch", batch)
    shapes("certified_radius", x=(x, "n *feature"))
    real("certified_radius", x=x)
    finite("certified_radius", x=x)
    positive("certified_radius", "deviation", deviation, single=True)
    exact = copy.deepcopy(model).cpu().double().eval()
    bounds, gain = class_bounds(exact), _largest_gain(exact)
    with _sizes(exact) as sizes:
        outputs = torch.cat([_outputs(exact, part) for part in x.split(batch)])
    finite("certified_radius", **{"outputs of the model": outputs})
    if len(outputs) != len(x):
        raise ValueError(
            f"certified_radius needs a model with a row of outputs for each input; got {len(outputs)} for {len(x)}."
        )
    lost = torch.cat(sizes).add(x.double().cpu().flatten(1).norm(dim=1)) * (ROUNDED * gain)
    return radii(outputs, bounds, lost=lost) * deviation


def _largest_gain(model: nn.Module) -> float:
    """How much what follows a layer may enlarge its error at most: the largest product of the last constants, or 1."""
    gain = largest = 1.0
    for part in reversed(parts_of(model)):
        gain *= layer_bound(part)
        largest = max(largest, gain)
    return min(largest, float_info.max)


@contextmanager
def _sizes(model: nn.Module) -> Iterator[list[Tensor]]:
    """For each batch that the model sees, the lengths of what all its layers make of a sample, summed."""
    sizes: list[Tensor] = []

    def start(module: nn.Module, given: tuple[Tensor, ...]) -> None:
        sizes.append(torch.zeros(len(given[0]), dtype=torch.float64))

    def add(module: nn.Module, given: object, made: object) -> None:
        if isinstance(made, Tensor) and made.ndim and len(made) == len(sizes[-1]):
            sizes[-1] += made.reshape(len(made), -1).norm(dim=1)

    hooks = [model.register_forward_pre_hook(start), *(each.register_forward_hook(add) for each in model.modules())]
    try:
        yield sizes
    finally:
        for hook in hooks:
            hook.remove()


def radii(
    outputs: Float[Tensor, "n k"], bounds: float | Float[Tensor, "k k"], *, lost: Float[Tensor, " n"] | None = None
) -> Float[Tensor, " n"]:
    """min_j (f_i − f_j)/L_ij, i the class, after ROUNDING of the largest output is taken off; 0 where classes tie.

    lost: bound on the error of each sample's outputs, which may lower and raise a margin as well. One class alone: inf.
    """
    shapes("radii", outputs=(outputs, "n k"))
    real("radii", outputs=outputs)
    finite("radii", outputs=outputs)
    not_negative("radii", "bounds", bounds, infinite=True)
    exact = outputs.double()
    top, chosen = exact.max(1, keepdim=True)
    margins = top - exact - ROUNDING * exact.abs().amax(1, keepdim=True)
    if lost is not None:
        shapes("radii", outputs=(outputs, "n k"), lost=(lost, "n"))
        margins = margins - 2 * lost.to(margins)[:, None]
    among: float | Tensor = max(float(bounds), TINY) if not isinstance(bounds, Tensor) or bounds.ndim == 0 else bounds
    if isinstance(among, Tensor):
        shapes("radii", outputs=(outputs, "n k"), bounds=(among, "k k"))
        among = among.to(exact).clamp(min=TINY)[chosen[:, 0]]
    found = (margins.clamp(min=0) / among).scatter(1, chosen, inf).amin(1)
    near = found.to(outputs.dtype)
    return torch.where(near.double() > found, near.nextafter(torch.zeros_like(near)), near)  # rounded down


def margin_cross_entropy(epsilon: float, lipschitz: float = 1.0, temperature: float = 1.0) -> Risk:
    """Cross-entropy of (f − √2 ε L y)/(T L), y one-hot: the right class has to win by √2 ε L to count as a tie.

    L is the Lipschitz constant of f, T the temperature in units of the input; a mean over samples, those with the label
    −100 left out. Source: [MeunierDelattre2022], whose training it is.
    """
    not_negative("margin_cross_entropy", "epsilon", epsilon, single=True)
    positive("margin_cross_entropy", "lipschitz", lipschitz, single=True)
    positive("margin_cross_entropy", "temperature", temperature, single=True)
    offset = 2**0.5 * epsilon * lipschitz

    def risk(outputs: Tensor, labels: Tensor) -> Tensor:
        refuse_misfit("margin_cross_entropy", outputs, labels)
        if labels.shape != outputs.shape[:1] or labels.is_floating_point():
            raise ValueError(
                f"margin_cross_entropy needs labels, one integer for each sample; got shape {tuple(labels.shape)} of "
                f"{labels.dtype}."
            )
        own = labels[:, None] == torch.arange(outputs.shape[1], device=labels.device)  # none for a label left out
        ahead = offset * own.to(outputs.dtype)
        return cross_entropy((outputs - ahead) / (temperature * lipschitz), labels)

    return risk


def _outputs(model: nn.Module, x: Tensor) -> Tensor:
    """Those of a copy of x, into which layers may write, in float64."""
    try:
        with without_autocast(torch.device("cpu")):
            outputs = model(x.to("cpu", torch.float64, copy=True))
    except RuntimeError as error:
        if out_of_memory(error):
            raise
        raise ValueError(
            f"certified_radius needs inputs that the model takes; {tuple(x.shape[1:])} it does not: "
            f"{one_line(error, 200)}. Change the shape of x."
        ) from None
    return tensor_of(outputs, "certified_radius")
