"""Data sets by name: the only table of names."""

from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from regimes.conventions import generator
from regimes.data import images, synthetic
from regimes.data.dataset import Dataset
from regimes.errors import UserError

TEACHER_INPUTS = 10  # dimension of the data set `teacher`
SIZES = {"teacher": (100, 1000), "circle": (15, 200), "digits": (200, 150), "mnist": (500, 1000)}  # train, test
NAMES = tuple(SIZES)


def dataset(
    name: str,
    *,
    train: int | None = None,
    test: int | None = None,
    classes: Sequence[int] | None = None,
    seed: int | torch.Generator = 0,
    data_dir: Path | str | None = None,
    choose: Callable[..., torch.Tensor] = images.uniform,
    scaling: images.Scaling = images.unit_norm,
    dtype: torch.dtype = torch.float64,
) -> Dataset:
    """One of the data sets teacher, circle, digits, mnist; sizes default to SIZES.

    teacher: regression, inputs uniform on the unit sphere of R^10, targets of a random ReLU teacher with three
    neurons ‖a_j b_j‖ = 1. circle: the same with d = 2 and 15 training samples, where neurons can be drawn.
    digits, mnist: real images of the given classes, see `images.split`; choose, scaling and data_dir are theirs.
    Source: [ChizatOyallonBach2019] Fig. 1a,b for circle.
    """
    if name not in SIZES:
        raise UserError(f"dataset needs one of {', '.join(NAMES)}; got {name!r}.")
    train, test = (given if given is not None else size for given, size in zip((train, test), SIZES[name], strict=True))
    stream = seed if isinstance(seed, torch.Generator) else generator(seed, NAMES.index(name))
    if name in ("digits", "mnist"):
        source = images.digits() if name == "digits" else images.mnist(data_dir)
        return images.split(
            source, train, test, generator=stream, classes=classes, choose=choose, scaling=scaling, dtype=dtype
        )
    if classes is not None:
        raise UserError(f"{name} is a regression and has no classes; got {list(classes)}. Use digits or mnist.")
    inputs = TEACHER_INPUTS if name == "teacher" else 2
    return synthetic.teacher_student(train, test, inputs=inputs, generator=stream, name=name, dtype=dtype)
