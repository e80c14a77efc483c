"""Nets with the layers z + h A(t_l) z of turning matrices A(t) = U(t) A Uᵀ(t), U(t) = e^{tcS} U(0).

S = (A − Aᵀ)/2 and c is the speed. In the turning frame, y = Uᵀz, the linear equation is y' = (A − cS) y, so that its
solution is z(t) = U(t) e^{t(A − cS)} Uᵀ(0) z(0).
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from regimes.control.one_sided import logarithmic_norms
from regimes.control.stepper import step
from regimes.control.tableau import EULER, KUTTA4, Tableau
from regimes.conventions import generator
from regimes.experiments.control.frozen_eigenvalues_mislead.config import Config
from regimes.streams import Stability

Matrices = Float[Tensor, "runs width width"]
# The matrix at t = 0, in the coordinates of the sources.
PUBLISHED = {"Vinograd": ((-10.0, 12.0), (0.0, -1.0)), "Markus-Yamabe": ((0.5, 1.0), (-1.0, -1.0))}
TANH = "triangular, tanh"
LOOKED_AT = 16  # layers whose eigenvalues and logarithmic norms are computed, and times at which growth is kept
FLOW = 1000  # Kutta steps for the equation itself
MARGIN = 0.1  # below 0, of the logarithmic norm of the shifted matrices


class Turning(NamedTuple):
    """Matrices that turn: A, what turns them cS, and U(0)."""

    matrix: Matrices
    skew: Matrices
    first: Matrices

    def frame(self, time: Float[Tensor, " runs"]) -> Matrices:
        """U(t)."""
        return torch.linalg.matrix_exp(time[:, None, None] * self.skew) @ self.first

    def at(self, time: Float[Tensor, " runs"]) -> Matrices:
        """A(t)."""
        frame = self.frame(time)
        return frame @ self.matrix @ frame.mT


def drawn(name: str, seeds: list[int], width: int) -> tuple[Matrices, Matrices]:
    """A and U(0) of each seed.

    Triangular: diagonal −U(½, 2), N(0, 9/4) above it. Then A D has the diagonal −a_ii d_i for every diagonal D > 0, so
    with tanh, too, the eigenvalues of the Jacobian U A D Uᵀ are negative at every state.
    """
    matrices, frames = [], []
    for seed in seeds:
        draw = generator(seed, Stability.WEIGHTS)
        if name in PUBLISHED:
            angle = 6.2832 * torch.rand((), generator=draw, dtype=torch.float64)
            matrices.append(torch.tensor(PUBLISHED[name], dtype=torch.float64))
            frames.append(
                torch.stack([torch.stack([angle.cos(), -angle.sin()]), torch.stack([angle.sin(), angle.cos()])])
            )
        else:
            above = torch.randn(width, width, generator=draw, dtype=torch.float64).triu(1) * 1.5
            own = 0.5 + 1.5 * torch.rand(width, generator=draw, dtype=torch.float64)
            matrices.append(above - own.diag())
            frames.append(torch.eye(width, dtype=torch.float64))
    return torch.stack(matrices), torch.stack(frames)


def normal(matrices: Matrices) -> Matrices:
    """A normal matrix with the same eigenvalues: blocks ((a, −b), (b, a)) of pairs a ± bi, and the real ones."""
    made = torch.zeros_like(matrices)
    for run, values in enumerate(torch.linalg.eigvals(matrices)):
        ordered = sorted(values.tolist(), key=lambda each: (each.real, abs(each.imag), each.imag))
        for place, value in enumerate(ordered):
            made[run, place, place] = value.real
            if value.imag > 0:  # comes after its conjugate
                made[run, place - 1, place], made[run, place, place - 1] = -value.imag, value.imag
    return made


def measure(config: Config, points: list[dict[str, Any]]) -> list[dict[str, float]]:
    """One row a net: its eigenvalues, its amplification by layers and by the equation, bounds and controls."""
    name, seeds = points[0]["net"], [point["seed"] for point in points]
    matrix, first = drawn(name, seeds, config.width)
    skew = (matrix - matrix.mT) / 2
    speed = torch.tensor([point["speed"] for point in points], dtype=torch.float64)[:, None, None]
    own = Turning(matrix, speed * skew, first)
    rate = torch.linalg.eigvalsh((matrix + matrix.mT) / 2)[:, -1]
    time = torch.tensor(config.gain).double().log() / rate
    eye = torch.eye(matrix.shape[-1], dtype=torch.float64).expand_as(matrix)
    columns = {
        "time": time,
        "closed": torch.linalg.matrix_norm(torch.linalg.matrix_exp(time[:, None, None] * (matrix - own.skew)), 2),
    }
    products = run(own, eye, time, EULER, config.layers, None)
    start = config.small * torch.linalg.svd(products[-1]).Vh[:, :1].mT
    bend = torch.tanh if name == TANH else None
    net, flow = (
        run(own, start if bend else eye, time, tableau, steps, bend)
        for tableau, steps in ((EULER, config.layers), (KUTTA4, FLOW))
    )
    size = config.small if bend else 1.0
    columns |= {f"growth_{number + 1}": _size(each) / size for number, each in enumerate(net)}
    columns |= {"net_growth": _size(net[-1]) / size, "flow": _size(flow[-1]) / size}
    columns |= looked_at(own, time, config.layers, flow if bend else None)
    for control, other in (("normal", normal(matrix)), ("negative", matrix - (rate[:, None, None] + MARGIN) * eye)):
        ended = run(own._replace(matrix=other), eye, time, EULER, config.layers, None)
        columns |= {control: _size(ended[-1])} | {f"{control}_{number + 1}": _size(e) for number, e in enumerate(ended)}
    return [{key: float(values[place]) for key, values in columns.items()} for place in range(len(points))]


def run(
    turning: Turning, z: Tensor, time: Tensor, tableau: Tableau, steps: int, bend: Callable[[Tensor], Tensor] | None
) -> list[Tensor]:
    """The columns of z after T k/16, k = 1..16, by z' = U(t) A σ(Uᵀ(t) z)."""
    size = (time / steps)[:, None, None]
    known: dict[int, Matrices] = {}

    def field(share: Any, parts: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        number = round(2 * float(share))
        if number not in known:
            for old in [each for each in known if each < number - 2]:
                del known[old]
            known[number] = turning.frame(time * number / (2 * steps))
        frame = known[number]
        inner = frame.mT @ parts[0]
        return (size * (frame @ (turning.matrix @ (inner if bend is None else bend(inner)))),)

    kept, ends = [], {max(1, round(steps * (number + 1) / LOOKED_AT)): None for number in range(LOOKED_AT)}
    for number in range(steps):
        (z,) = step(field, tableau, float(number), (z,), 1.0).end
        if number + 1 in ends:
            kept.append(z)
    return kept


def looked_at(turning: Turning, time: Tensor, layers: int, course: list[Tensor] | None) -> dict[str, Tensor]:
    """Largest Re λ and spectral radius of layers, and e^{∫μ dt} by the mean of the logarithmic norms at 16 times.

    With a course of states z the Jacobians are taken at z, z/2 and 0, and the largest of their norms counts.
    """
    frozen, radius, norms = [], [], []
    eye = torch.eye(turning.matrix.shape[-1], dtype=torch.float64)
    for number in range(LOOKED_AT):
        frame = turning.frame(time * (number + 1) / LOOKED_AT)
        shares = (0.0,) if course is None else (1.0, 0.5, 0.0)
        worst = []
        for share in shares:
            state = torch.zeros_like(frame[:, :, :1]) if course is None else share * course[number]
            slopes = 1 - torch.tanh(frame.mT @ state).square() if course is not None else torch.ones_like(state)
            jacobian = frame @ turning.matrix @ (slopes * frame.mT)
            frozen.append(torch.linalg.eigvals(jacobian).real.amax(1))
            radius.append(torch.linalg.eigvals(eye + (time / layers)[:, None, None] * jacobian).abs().amax(1))

            def field(z: Tensor, jacobian: Tensor = jacobian) -> Tensor:
                return (jacobian @ z[..., None])[..., 0]

            worst.append(logarithmic_norms(field, state[..., 0], generator=generator(0, Stability.SEARCH)))
        norms.append(torch.stack(worst).amax(0))
    bound = (time * torch.stack(norms).mean(0)).exp()
    return {"frozen": torch.stack(frozen).amax(0), "radius": torch.stack(radius).amax(0), "bound": bound}


def _size(columns: Tensor) -> Tensor:
    """The largest singular value of matrices, the length of single vectors."""
    return torch.linalg.matrix_norm(columns, 2)
