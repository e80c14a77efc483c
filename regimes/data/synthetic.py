"""Inputs drawn from known laws, and the teacher-student data made from them."""

import math
from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from regimes.checks import count, not_negative
from regimes.data.dataset import Dataset
from regimes.data.teacher import Teacher, random_teacher
from regimes.errors import UserError, users_choice

Inputs = Callable[..., Tensor]


def gaussian_inputs(
    samples: int, inputs: int, *, generator: torch.Generator, dtype: torch.dtype = torch.float64
) -> Float[Tensor, "n d"]:
    """Independent rows x_i ~ N(0, I_d). Drawn in float64 whatever dtype, so both precisions see the same points."""
    with users_choice():
        count("gaussian_inputs", "samples", samples)
        count("gaussian_inputs", "inputs", inputs)
    return torch.randn(samples, inputs, generator=generator, dtype=torch.float64).to(dtype)


def sphere(
    samples: int, inputs: int, *, generator: torch.Generator, dtype: torch.dtype = torch.float64
) -> Float[Tensor, "n d"]:
    """Independent rows uniform on the unit sphere of R^d (d = 2: the unit circle), as normalised Gaussians."""
    with users_choice():
        count("sphere", "samples", samples)
        count("sphere", "inputs", inputs)
    x = torch.randn(samples, inputs, generator=generator, dtype=torch.float64)
    return (x / x.norm(dim=1, keepdim=True)).to(dtype)


def circles(
    samples: int,
    *,
    noise: float = 0.05,
    factor: float = 0.3,
    generator: torch.Generator,
    dtype: torch.dtype = torch.float64,
) -> tuple[Float[Tensor, "n 2"], Int[Tensor, " n"]]:
    """Two concentric circles: label 0 on the unit circle, label 1 on the circle of radius `factor`.

    ⌊n/2⌋ equally spaced points outside and the rest inside, in random order, plus noise·N(0, I) on each point.
    Same law as scikit-learn's make_circles, from a torch generator. Draws: the order first, then the noise.
    """
    with users_choice():
        count("circles", "samples", samples)
        not_negative("circles", "noise", noise)
        not_negative("circles", "factor", factor)
    if factor >= 1:
        raise UserError(f"circles needs factor in [0, 1), the radius of the inner circle; got {factor}.")
    labels = (torch.arange(samples) >= samples // 2).long()
    rank = torch.where(labels == 0, torch.arange(samples), torch.arange(samples) - samples // 2)
    sizes = torch.where(labels == 0, samples // 2, samples - samples // 2)
    angle = 2 * math.pi * rank.double() / sizes
    radius = torch.where(labels == 0, 1.0, factor).double()
    x = radius[:, None] * torch.stack([angle.cos(), angle.sin()], dim=1)
    order = torch.randperm(samples, generator=generator)
    x, labels = x[order], labels[order]
    return (x + noise * torch.randn(samples, 2, generator=generator, dtype=torch.float64)).to(dtype), labels


def teacher_student(
    train: int,
    test: int,
    *,
    inputs: int,
    neurons: int = 3,
    magnitude: float = 1.0,
    generator: torch.Generator,
    draw: Inputs = sphere,
    teacher: Teacher | None = None,
    name: str = "teacher",
    dtype: torch.dtype = torch.float64,
) -> Dataset:
    """Regression on the targets of a two-layer teacher, at inputs drawn by `draw` (uniform on the unit sphere).

    No noise on the targets. Draws: the teacher (unless given), then the training inputs, then the test inputs, so
    that the training data do not depend on the number of test samples.
    Source: [ChizatOyallonBach2019] section 3.1.
    """
    with users_choice():
        count("teacher_student", "train", train)
        count("teacher_student", "test", test)
        count("teacher_student", "inputs", inputs)
    if not callable(draw):
        raise UserError(f"teacher_student needs draw as a function such as sphere; got {draw!r}.")
    if teacher is None:
        teacher = random_teacher(inputs, neurons, generator=generator, magnitude=magnitude)
    teacher = teacher._replace(output=teacher.output.to(dtype), input=teacher.input.to(dtype))
    x_train = draw(train, inputs, generator=generator, dtype=dtype)
    x_test = draw(test, inputs, generator=generator, dtype=dtype)
    return Dataset(name, x_train, teacher(x_train), x_test, teacher(x_test), classes=None, teacher=teacher)
