"""What the units of a network do on the points: signs of pre-activations, and the features before the last layer."""

from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from regimes.modules import called
from regimes.tangent.diagnosis.pair import CALLER, Pair
from regimes.tangent.diagnosis.readings import Cost, NotMeasured, Reading, of_points

ACTIVATIONS = {"relu", "relu6", "leaky_relu", "rrelu", "prelu", "hardtanh", "hardswish", "hardsigmoid", "threshold",
               "tanh", "sigmoid", "gelu", "silu", "elu", "celu", "selu", "softplus", "mish", "erf", "logsigmoid",
               "softsign", "tanhshrink"}  # fmt: skip
PRODUCTS = {"linear", "matmul", "mm", "addmm", "__matmul__"}


class Activity(NamedTuple):
    """One call on the points: signs of the inputs of the activations in their order, and the features.

    features: what the last matrix product with a row for each point and k columns was given, (n, p); None: there is
    no such product.
    """

    preactivations: list[Tensor]
    features: Tensor | None


class _Watch(TorchFunctionMode):
    def __init__(self, n: int, k: int) -> None:
        super().__init__()
        self.n, self.k = n, k
        self.seen = Activity([], None)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = getattr(func, "__name__", "")
        first = args[0] if args and isinstance(args[0], Tensor) else None
        if first is None or first.shape[:1] != (self.n,):  # not a row for each point: a gate, a temperature, a weight
            return func(*args, **(kwargs or {}))
        if first.is_floating_point() and _activates(name.strip("_"), args[1:], kwargs or {}):
            self.seen.preactivations.append(first.detach().reshape(self.n, -1) > 0)
        given = first.detach() if name in PRODUCTS else None
        result = func(*args, **(kwargs or {}))
        if given is not None and given.ndim == 2 and tuple(getattr(result, "shape", ())) == (self.n, self.k):
            self.seen = self.seen._replace(features=given.double().cpu())
        return result


def _activates(name: str, args: Any, kwargs: Any) -> bool:
    """Whether it is an activation: by its name, or as a ReLU that is written as a clamp at 0."""
    if name in {"clamp", "clamp_min", "clip"}:
        least = args[0] if args else kwargs.get("min")
        return isinstance(least, int | float) and least == 0
    return name in ACTIVATIONS


def activity(model: nn.Module, x: Tensor, k: int) -> Activity:
    """What happens in one call on all the points."""
    watch = _Watch(len(x), k)
    with torch.no_grad(), watch:
        called(model, x.clone(), CALLER)
    return watch.seen


class Activities(NamedTuple):
    """Of the network before and after; cost: of both calls."""

    start: Activity
    end: Activity
    cost: Cost


def flips(found: Activities, generator: torch.Generator) -> Reading:
    """Share of (unit, point) pairs whose pre-activation has another sign than at the start."""
    before, after, cost = found
    if not before.preactivations:
        raise NotMeasured("no activation was seen that is known by name (relu, tanh, gelu, ...)")
    if [each.shape for each in before.preactivations] != [each.shape for each in after.preactivations]:
        raise NotMeasured("the two calls went through different activations")
    share = torch.cat([a != b for a, b in zip(after.preactivations, before.preactivations, strict=True)], 1).double()
    whole = share.mean(1).cpu()
    return of_points(lambda some: whole[some].mean(), len(whole), generator, cost.once(), low=0.0, high=1.0, halves=200)


def richness(
    found: Activities, outputs: Float[Tensor, "n k"], generator: torch.Generator, *, end: bool = False
) -> Reading:
    """D_LR = 1 − CKA(T, T_MP) of one of the two networks, with its outputs: near 0 is rich, near 1 is lazy.

    T = ΦΦᵀ is the kernel of the features Φ before the last layer, T_MP the projector onto constants and the learned
    outputs; CKA centres both, so that of T_MP the projector onto the centred outputs is left.
    Source: [Nam2024].
    """
    phi = (found.end if end else found.start).features
    if phi is None:
        raise NotMeasured("no last linear layer was seen whose inputs are the features")
    if phi.shape[1] == 0 or len(outputs) < 3:
        raise NotMeasured("it needs three points at least")
    return of_points(
        lambda some: low_rank_measure(phi[some], outputs[some].double().cpu()),
        len(outputs), generator, found.cost.once(), low=0.0, high=1.0,
    )  # fmt: skip


def low_rank_measure(features: Float[Tensor, "n p"], outputs: Float[Tensor, "n k"]) -> float:
    """D_LR on these points: 1 − ‖QᵀΦ‖²_F / (‖ΦΦᵀ‖_F √r), Φ centred, Q an orthonormal basis of the centred outputs."""
    phi, f = (values - values.mean(0) for values in (features, outputs))
    if not bool(phi.any()) or not bool(f.any()):
        raise NotMeasured("features or outputs are the same at all points")
    u, sizes, _ = torch.linalg.svd(f, full_matrices=False)
    basis = u[:, sizes > 1e-10 * sizes[0]]
    gram = phi @ phi.mT
    along = (basis.mT @ phi).square().sum()
    return float(1 - along / (gram.norm() * basis.shape[1] ** 0.5))


def activities(pair: Pair, k: int) -> Activities:
    """Of the network before and after, in eval mode."""
    return Activities(activity(pair.start, pair.x, k), activity(pair.end, pair.x, k), Cost(2))
