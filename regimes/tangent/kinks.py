"""Whether a model bends smoothly with its parameters, or has kinks that its second derivative does not see."""

from math import inf, isfinite
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from regimes.conventions import Params
from regimes.errors import out_of_memory
from regimes.modules import copied, random_like
from regimes.tangent.bend import derivative
from regimes.tangent.functional import flatten, trainable
from regimes.tangent.inputs import Gathered
from regimes.tangent.plain import Plain

REACH = (0.1, 0.3, 1.0, 3.0)  # half lengths of the lines, relative to the size of each parameter
_SAMPLES = 8
_SIZE = 200_000  # parameters times inputs, if more than one input
_FALLS = 26  # halvings after which a step of the derivative is taken for a jump
_WINDOW = 10  # of them, over which the error at a smooth place falls at least as the length
_PIECES = 40  # of one line
_ROUNDING = {torch.float64: 1e-6, torch.float32: 1e-3}  # steps of a smaller share of the derivative
_TINY = 1e-300
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

    def __init__(self, model: nn.Module, x: Tensor, source: torch.Generator, share: float) -> None:
        self.plain, self.x, self.source, self.share = Plain(model), x, source, share
        self.start = {name: value.detach().clone() for name, value in trainable(model).items()}
        self.direction = _direction(self.start, source)
        self.weights: Tensor | None = None

    def __call__(self, t: float) -> _Point:
        def work(leaves: Params) -> _Point:
            with torch.no_grad():
                for name, leaf in leaves.items():
                    leaf.copy_(self.start[name] + t * self.direction[name])
            output = self.plain.value(self.x)
            weights = random_like(output, self.source) if self.weights is None else self.weights
            self.weights = weights
            value = (weights * output).sum()
            slope = derivative(value, leaves) @ flatten(self.direction)
            bend = derivative(slope, leaves, create_graph=False) @ flatten(self.direction)
            return _Point(*(float(each.detach()) for each in (value, slope, bend)))

        return self.plain.run(work)


def _direction(params: Params, source: torch.Generator) -> Params:
    sizes = {name: value.square().mean().sqrt() for name, value in params.items()}
    whole = torch.stack(list(sizes.values())).max()
    whole = whole if whole > 0 else torch.ones_like(whole)
    return {
        name: torch.randn(value.shape, generator=source, device=source.device).to(value)
        * (sizes[name] if sizes[name] > 0 else whole)
        for name, value in params.items()
    }


def kink(model: nn.Module, x: Tensor) -> str | None:
    """What the second derivative of the model by its parameters misses, in words; None if it misses nothing.

    Along random lines through the present parameters, the integral of the second derivative has to give the change of
    the first, and that of the first the change of the output. Where it does not, the line is halved, and halved again:
    for a smooth model the error vanishes, at a kink or a jump it stays as the piece shrinks. Computed in float64 on a
    copy, on a few of the inputs, those of the largest entries.
    """
    size = sum(value.numel() for value in trainable(model).values())
    largest = (
        x.reshape(len(x), -1).abs().double().sum(1).argsort(descending=True, stable=True)
    )  # at 0 all may be smooth
    few = x[largest[: max(2, min(_SAMPLES, _SIZE // size))]]
    twin, few, share = _doubled(model, few)
    source = torch.Generator().manual_seed(0)
    for reach in REACH:
        line = _Line(twin, few, source, share)
        found = _second(line) or _on(line, reach)
        if found is not None:
            return found
    return None


def _doubled(model: nn.Module, x: Tensor) -> tuple[nn.Module, Tensor, float]:
    """A copy in float64 with its inputs, or in its own precision where it cannot do without; the share of rounding."""
    try:
        twin = copied(model).double()
        if isinstance(twin, Gathered):
            twin.pool = {
                key: value.double() if value.is_floating_point() else value for key, value in twin.pool.items()
            }
        twice = x.double() if x.is_floating_point() else x
        output = Plain(twin).run(lambda _: Plain(twin).value(twice))
        return twin, twice, _ROUNDING[output.dtype]
    except RuntimeError as error:
        if out_of_memory(error):
            raise
    return copied(model), x, _ROUNDING[torch.float32]


def _second(line: _Line) -> str | None:
    """Whether autograd's second derivative at the present parameters is the change of its first derivative.

    It is not where a part of the backward pass has no derivative of its own: autograd leaves that out without a word.
    """
    here, worst = line(0.0), inf
    for exponent in range(2, 7):
        step = 10.0**-exponent if line.share < 1e-3 else 3.0 ** (1 - exponent)
        change = (line(step).slope - line(-step).slope) / (2 * step)
        noise = line.share * 1e-6 * abs(here.slope) / step
        if not isfinite(change):
            return None  # which is said where the line is followed
        worst = min(worst, (abs(change - here.bend) - noise) / max(abs(change), abs(here.bend), _TINY))
        if not worst > 1e-2:
            return None
    return "the second derivative that autograd gives is not the change of its first one"


def _on(line: _Line, reach: float) -> str | None:
    """The kink or jump to which the largest errors on [−reach, reach] lead.

    From the piece with the largest error the way leads down, each time into the half with the larger one. Where the
    ends are not finite the line is shorter.
    """
    ends = line(-reach), line(reach)
    for _ in range(10):
        if all(isfinite(part) for end in ends for part in end):
            break
        reach /= 2
        ends = line(-reach), line(reach)
    else:
        return "it is not finite around its present parameters"
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
        if not error <= max(line.share * size, worst):
            worst, fault = error, called
    return _Piece(low, before, high, after, worst if isfinite(worst) else inf, fault)
