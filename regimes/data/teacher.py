"""The two-layer nets that make the targets of teacher-student data."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from regimes.checks import count, positive, shapes
from regimes.errors import users_choice


class Teacher(NamedTuple):
    """Two-layer net y(x) = Σ_j a_j σ(b_j·x), a plain sum over its m0 neurons (no 1/m0), ReLU unless said."""

    output: Float[Tensor, "m0 k"]
    input: Float[Tensor, "m0 d"]
    activation: Callable[[Tensor], Tensor] = torch.relu

    def __call__(self, x: Float[Tensor, "*runs n d"]) -> Float[Tensor, "*runs n k"]:
        """Targets at the inputs x."""
        shapes("Teacher", x=(x, "*runs n d"), input=(self.input, "m0 d"), output=(self.output, "m0 k"))
        return self.activation(x @ self.input.T) @ self.output

    @property
    def particles(self) -> Float[Tensor, "m0 d"]:
        """Points |a_j| b_j, where the neurons of a student are drawn in figures (|a_j| is a norm over outputs)."""
        return self.output.norm(dim=1, keepdim=True) * self.input


def random_teacher(
    inputs: int,
    neurons: int = 3,
    *,
    generator: torch.Generator,
    magnitude: float = 1.0,
    dtype: torch.dtype = torch.float64,
) -> Teacher:
    """ReLU teacher with unit directions b_j, uniform on the sphere, and a_j = ±magnitude by fair coins.

    So ‖a_j b_j‖ = magnitude. Draws: the m0·d directions first, then the m0 signs.
    Source: [ChizatOyallonBach2019] section 3.1, m0 = 3.
    """
    with users_choice():
        count("random_teacher", "inputs", inputs)
        count("random_teacher", "neurons", neurons)
        positive("random_teacher", "magnitude", magnitude)
    directions = torch.randn(neurons, inputs, generator=generator, dtype=torch.float64)
    directions = directions / directions.norm(dim=1, keepdim=True)
    signs = 2 * torch.randint(0, 2, (neurons, 1), generator=generator).double() - 1
    return Teacher(output=(magnitude * signs).to(dtype), input=directions.to(dtype))
