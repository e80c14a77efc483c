"""Whether a model bends smoothly with its parameters, or has kinks that its second derivative does not see."""

from math import inf, isfinite
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from regimes.conventions import Params
from regimes.modules import copied, random_like
from regimes.tangent.bend import derivative
from regimes.tangent.functional import flatten, trainable
from regimes.tangent.plain import Plain

REACH = (0.1, 0.3, 1.0, 3.0)  # half lengths of the lines, relative to the size of each parameter
_SAMPLES = 8
_SIZE = 200_000  # parameters times inputs, if more than one input
_FALLS = 26  # halvings after which a step of the derivative is taken for a jump
_WINDOW = 10  # of them, over which the error at a smooth place falls at least as the length
_PIECES = 60  # of one line
_SHARE = 1e-6  # of the derivative: smaller steps are rounding
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(6)


class _Point(NamedTuple):
    """A combination of the outputs on a line of parameters, and its first and second derivative along it."""

    value: float
    slope: float
    bend: float


class _Piece(NamedTuple):
    low: float
    before: _Point
    high: float
    after: _Point
    error: float
    fault: str


class _Line:
    """t ↦ ⟨c, h(w_0 + t v)⟩ for a random c and a random direction v that moves each parameter by its own size."""

    def __init__(self, model: nn.Module, x: Tensor, source: torch.Generator) -> None:
        self.plain, self.x, self.source = Plain(model), x, source
        self.start = {name: value.detach().clone() for name, value in trainable(model).items()}
        self.direction = _direction(self.start, source)
        self.weights: Tensor | None = None

    def __call__(self, t: float) -> _Point:
        def work(leaves: Params) -> _Point:
            with torch.no_grad():
                for name, leaf in leaves.items():
                    leaf.copy_(self.start[name] + t * self.direction[name])
            output = self.plain.value(self.x)
            if self.weights is None:
                self.weights = random_like(output, self.source)
            value = (self.weights * output).sum()
            slope = derivative(value, leaves) @ flatten(self.direction)
            bend = derivative(slope, leaves, create_graph=False) @ flatten(self.direction)
            return _Point(*(float(each.detach()) for each in (value, slope, bend)))

        return self.plain.run(work)


def _direction(params: Params, source: torch.Generator) -> Params:
    sizes = {name: value.square().mean().sqrt() for name, value in params.items()}
    whole = torch.stack(list(sizes.values())).max()
    whole = whole if whole > 0 else torch.ones_like(whole)
    return {
        name: torch.randn(value.shape, generator=source).to(value) * (sizes[name] if sizes[name] > 0 else whole)
        for name, value in params.items()
    }


def kink(model: nn.Module, x: Tensor) -> str | None:
    """What the second derivative of the model by its parameters misses, in words; None if it misses nothing.

    Along random lines through the present parameters, the integral of the second derivative has to give the change of
    the first, and that of the first the change of the output. Where it does not, the line is halved, and halved again:
    for a smooth model the error vanishes, at a kink or a jump it stays as the piece shrinks. Computed in float64 on a
    copy, on a few of the inputs.
    """
    twin = copied(model).double()
    size = sum(value.numel() for value in trainable(model).values())
    few = x[: max(1, min(_SAMPLES, _SIZE // size))]
    few = few.double() if few.is_floating_point() else few
    source = torch.Generator().manual_seed(0)
    for reach in REACH:
        found = _on(_Line(twin, few, source), reach)
        if found is not None:
            return found
    return None


def _on(line: _Line, reach: float) -> str | None:
    """The kink or jump that the largest errors on [−reach, reach] lead to; a shorter line where its ends are not finite.

    From the piece with the largest error the way leads down, each time into the half with the larger one.
    """
    ends = line(-reach), line(reach)
    for _ in range(10):
        if all(isfinite(part) for end in ends for part in end):
            break
        reach /= 2
        ends = line(-reach), line(reach)
    left = [_piece(line, -reach, ends[0], reach, ends[1])]
    pieces = 1
    while left and pieces < _PIECES:
        left.sort(key=lambda piece: piece.error)
        piece = left.pop()
        errors = [piece.error]
        while piece.error > 0 and len(errors) <= _FALLS:
            if len(errors) > _WINDOW and errors[-1] * 2 ** (_WINDOW - 2) < errors[-1 - _WINDOW]:
                break  # it falls as fast as the length of the piece
            middle = (piece.low + piece.high) / 2
            between = line(middle)
            halves = [
                _piece(line, piece.low, piece.before, middle, between),
                _piece(line, middle, between, piece.high, piece.after),
            ]
            piece = max(halves, key=lambda half: half.error)
            left += [half for half in halves if half is not piece and half.error > 0]
            errors.append(piece.error)
            pieces += 2
        else:
            if piece.error > 0:
                return f"its {piece.fault} jumps at a distance of {abs(piece.low):.1g} times the size of its parameters"
    return None


def _piece(line: _Line, low: float, before: _Point, high: float, after: _Point) -> _Piece:
    """What does not add up between two points of the line, as a share of what changes there; 0 up to rounding."""
    nodes = [line((low + high) / 2 + (high - low) / 2 * float(node)) for node in _NODES]
    weights = [(high - low) / 2 * float(weight) for weight in _WEIGHTS]
    worst, fault = 0.0, ""
    for name, rest, called in (("value", "slope", "output"), ("slope", "bend", "derivative")):
        change = getattr(after, name) - getattr(before, name)
        integral = sum(weight * getattr(node, rest) for weight, node in zip(weights, nodes, strict=True))
        size = max(abs(getattr(point, name)) for point in (before, after, *nodes))
        error = abs(change - integral)
        if not error <= max(_SHARE * size, worst):
            worst, fault = error, called
    return _Piece(low, before, high, after, worst if isfinite(worst) else inf, fault)
