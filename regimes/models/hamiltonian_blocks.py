"""Residual blocks that are steps of a Hamiltonian system: channels are halves (z, p), and the step is symplectic.

    z' = ∂T/∂p(t, p),   p' = −∂V/∂z(t, z),   H = T + V.

Cases of [Celledoni2021]: T = ½‖p‖², so that z″ = −Aᵀσ(Az + b); and both halves with a potential of their own,
z' = A1ᵀσ(A1 p + b1), p' = −A2ᵀσ(A2 z + b2). The Jacobian J of a block by a symplectic method has JᵀΩJ = Ω, so its
volume is 1, and the block has an exact inverse.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from regimes.activations import TANH, Activation
from regimes.checks import count, function, kind, positive
from regimes.control.partitioned import Half, change, change_back
from regimes.control.tableau import STORMER_VERLET, Pair, Tableau
from regimes.models.measured import measured_sum
from regimes.models.potentials import Potential, convolutional_potential, dense_potential
from regimes.models.residual import Block, Move

Gradient = Callable[..., Tensor]


class HamiltonianStep(nn.Module):
    """The change of (z, p), joined along the channels, by one step of a separable Hamiltonian system.

    kinetic: ∂T/∂p as a function of p, None for T = ½‖p‖²; potential: ∂V/∂z as a function of z. Both are modules or
    functions; `Potential` and `GradientOf` are such. time: None if they do not depend on it, else they take (t, state)
    and the step begins at that time.
    """

    def __init__(
        self,
        kinetic: Gradient | None,
        potential: Gradient,
        *,
        method: Pair | Tableau = STORMER_VERLET,
        size: float = 1.0,
        time: float | None = None,
    ) -> None:
        super().__init__()
        function("HamiltonianStep", kinetic=kinetic, potential=potential)
        if potential is None:
            raise ValueError("HamiltonianStep needs potential, ∂V/∂z as a function of z; got None.")
        kind("HamiltonianStep", "method", method, Pair | Tableau, "a Pair or Tableau, such as STORMER_VERLET")
        positive("HamiltonianStep", "size", size, single=True)
        if time is not None:
            kind("HamiltonianStep", "time", time, float | int, "a number, or None")
        self.kinetic, self.potential = kinetic, potential
        self.method, self.size, self.time = method, size, time

    def halves(self) -> tuple[Half, Half]:
        """z' as a function of (t, p), and p' as one of (t, z)."""
        kinetic, potential, timed = self.kinetic, self.potential, self.time is not None

        def velocity(now: float | Tensor, p: Tensor) -> Tensor:
            if kinetic is None:
                return p
            return kinetic(now, p) if timed else kinetic(p)

        def force(now: float | Tensor, z: Tensor) -> Tensor:
            return -(potential(now, z) if timed else potential(z))

        return velocity, force

    def forward(
        self, state: Float[Tensor, "n channels *image"], weight: Float[Tensor, ""] | None = None, *, back: bool = False
    ) -> Float[Tensor, "n channels *image"]:
        """The change by a step of size h, or of weight·h; `back`: that which undoes the step that ended in the state.

        ValueError: an odd number of channels.
        """
        if state.ndim < 2 or state.shape[1] % 2:
            raise ValueError(
                f"a Hamiltonian block needs an even number of channels, for the halves z and p; got "
                f"{tuple(state.shape)}. Change the width."
            )
        z, p = state.chunk(2, 1)
        size = self.size if weight is None else self.size * weight
        step = change_back if back else change
        added = step(*self.halves(), self.method, self.time or 0.0, z, p, size, frozen=self.time is None)
        if added.q.shape != z.shape or added.p.shape != p.shape:  # a sum would broadcast
            raise ValueError(
                f"a Hamiltonian block needs velocities of the shapes of its halves, {tuple(z.shape)}; got "
                f"{tuple(added.q.shape)} and {tuple(added.p.shape)}. Change kinetic or potential."
            )
        return torch.cat([added.q, added.p], 1)


class HamiltonianBlock(Block):
    """Block (z, p) ↦ (z, p) + one step, see HamiltonianStep; `inverse` goes back. The times of a segment scale h.

    The step that transport counts is end − start, summed over z and p.
    """

    residual: HamiltonianStep

    def __init__(
        self,
        kinetic: Gradient | None,
        potential: Gradient,
        *,
        method: Pair | Tableau = STORMER_VERLET,
        size: float = 1.0,
        time: float | None = None,
    ) -> None:
        super().__init__(HamiltonianStep(kinetic, potential, method=method, size=size, time=time))

    def move(self, z: Float[Tensor, "n *feature"], weight: Float[Tensor, ""] | None = None) -> Move:
        """Start, step and end of the block's transport; `weight` multiplies h."""
        step = self.residual(z, weight)
        end, squares = measured_sum(z, step)
        return Move(z, step, end, squares)

    def end(self, z: Float[Tensor, "n *feature"], weight: Float[Tensor, ""] | None = None) -> Tensor:
        """The end of the same move."""
        return z + self.residual(z, weight)

    def increment(self, z: Float[Tensor, "n *feature"]) -> Tensor:
        """The step of the same move."""
        return self.residual(z)

    def inverse(self, z: Float[Tensor, "n *feature"], weight: Float[Tensor, ""] | None = None) -> Tensor:
        """The state from which the block comes to z: exact, but for rounding.

        By a pair it costs as much as the block. Implicit methods, and the backward steps of explicit single methods,
        are iterated; RunFailed says where that does not converge.
        """
        return z + self.residual(z, weight, back=True)


def _even(caller: str, name: str, value: int) -> int:
    if count(caller, name, value) % 2:
        raise ValueError(f"{caller} needs an even {name}, for the halves z and p; got {value}. Change {name}.")
    return value // 2


def hamiltonian_dense(
    width: int,
    hidden: int | None = None,
    *,
    activation: Activation = TANH,
    symmetric: bool = True,
    method: Pair | Tableau = STORMER_VERLET,
    size: float = 1.0,
) -> HamiltonianBlock:
    """Block on `width` features, half of them z; A maps a half to `hidden` features, as many unless given.

    symmetric: z' = A1ᵀσ(A1 p + b1), p' = −A2ᵀσ(A2 z + b2); else z″ = −Aᵀσ(Az + b).
    """
    half = _even("hamiltonian_dense", "width", width)
    kind("hamiltonian_dense", "symmetric", symmetric, bool, "True or False")

    def made() -> Potential:
        return dense_potential(half, hidden, activation)

    return HamiltonianBlock(made() if symmetric else None, made(), method=method, size=size)


def hamiltonian_convolution(
    channels: int,
    hidden: int | None = None,
    *,
    kernel: int = 3,
    activation: Activation = TANH,
    symmetric: bool = True,
    method: Pair | Tableau = STORMER_VERLET,
    size: float = 1.0,
) -> HamiltonianBlock:
    """The same on images: A is a convolution from half of the channels to `hidden`, as many as it has unless given."""
    half = _even("hamiltonian_convolution", "channels", channels)
    kind("hamiltonian_convolution", "symmetric", symmetric, bool, "True or False")

    def made() -> Potential:
        return convolutional_potential(half, hidden, activation, kernel=kernel)

    return HamiltonianBlock(made() if symmetric else None, made(), method=method, size=size)
