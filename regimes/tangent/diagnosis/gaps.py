"""How far a trained network is from the straight continuation of its start, and the weights from where they began."""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from regimes.conventions import Params
from regimes.tangent.diagnosis.pair import Pair
from regimes.tangent.diagnosis.readings import NotMeasured, Reading, root_ratio

MANY_LAYERS = 64
DECAYED = 0.99  # a factor on the norm above which weight decay has done nothing


class Layer(NamedTuple):
    """One layer: ‖w − w_0‖, the same over ‖w_0‖ (None for a start at 0), and the gap that it alone makes.

    gap: ‖f(w_0 + δ) − f_0 − J_0 δ‖ / ‖f_T − f_0‖ with δ the motion of this layer alone.
    """

    name: str
    motion: float
    relative_motion: float | None
    gap: float | None


class Outputs(NamedTuple):
    """Outputs on the points before and after."""

    f_0: Float[Tensor, "n k"]
    f_T: Float[Tensor, "n k"]

    @property
    def change(self) -> Float[Tensor, " n"]:
        """‖f_T(x_i) − f_0(x_i)‖² of each point."""
        return (self.f_T - self.f_0).square().sum(1)


def weights_moved(pair: Pair) -> Reading:
    """‖w_T − w_0‖ / ‖w_0‖ over all trained weights."""
    moved, start = _norm(pair.moved), _norm(pair.w_0)
    if start == 0:
        raise NotMeasured("the weights start at 0, so no motion is relative to them")
    return Reading(moved / start)


def linearisation_gap(pair: Pair, outputs: Outputs, generator: torch.Generator) -> Reading:
    """‖f_T − f_0 − J_0 (w_T − w_0)‖ / ‖f_T − f_0‖ in L² of the points: the share of the change beyond first order."""
    (linear,) = pair.step(pair.w_0, [pair.moved])
    beyond = (outputs.f_T - outputs.f_0 - linear).square().sum(1)
    return root_ratio(beyond, outputs.change, generator, passes=3)


def gap_after_decay(pair: Pair, outputs: Outputs, generator: torch.Generator) -> Reading:
    """The same from the start as weight decay alone would have shrunk it: w_0 with each tensor times its factor c.

    c = ⟨w_T, w_0⟩ / ‖w_0‖², kept within [0, 1]. ‖f_T − f(c w_0) − J(c w_0)(w_T − c w_0)‖ / ‖f_T − f(c w_0)‖: relative
    to what was learned beside the decay, however large the outputs were that decay has removed.
    """
    shrunk, least = decayed_start(pair)
    if least > DECAYED:
        raise NotMeasured(f"no weights have shrunk: the smallest factor on those of a layer is {least:.3g}")
    ahead = {name: value - shrunk[name] for name, value in pair.w_T.items()}
    (linear,) = pair.step(shrunk, [ahead])
    learned = outputs.f_T - pair.outputs(shrunk)
    beyond = (learned - linear).square().sum(1)
    return root_ratio(beyond, learned.square().sum(1), generator, passes=3)


def decayed_start(pair: Pair) -> tuple[Params, float]:
    """c w_0 of each tensor, and the smallest c among tensors that hold a tenth of the norm of all, at least."""
    whole, shrunk, factors = _norm(pair.w_0), {}, [1.0]
    for name, value in pair.w_0.items():
        square = float(value.abs().square().sum())
        product = float((pair.w_T[name] * value.conj()).real.sum()) if square else 0.0
        c = min(max(product / square, 0.0), 1.0) if square else 1.0
        shrunk[name] = c * value
        if square >= 0.01 * whole**2:
            factors.append(c)
    return shrunk, min(factors)


def layers(pair: Pair, outputs: Outputs) -> list[Layer]:
    """Each layer by itself; gaps are left out where there are many."""
    change, moved = float(outputs.change.sum().sqrt()), pair.moved
    alone = [{name: moved[name] if name in names else torch.zeros_like(moved[name]) for name in moved}
             for names in pair.layers.values()]  # fmt: skip
    gaps: list[float | None] = [None] * len(alone)
    if len(alone) <= MANY_LAYERS and change > 0:
        for number, (direction, linear) in enumerate(zip(alone, pair.step(pair.w_0, alone), strict=True)):
            there = pair.outputs({name: value + direction[name] for name, value in pair.w_0.items()})
            gaps[number] = float((there - outputs.f_0 - linear).norm()) / change
    found = []
    for (layer, names), gap in zip(pair.layers.items(), gaps, strict=True):
        motion, start = _norm({n: moved[n] for n in names}), _norm({n: pair.w_0[n] for n in names})
        found.append(Layer(layer, motion, motion / start if start else None, gap))
    return found


def _norm(values: Params) -> float:
    return float(torch.stack([value.abs().square().sum() for value in values.values()]).sum().sqrt())
