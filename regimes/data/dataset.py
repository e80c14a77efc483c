"""One data set as every command and experiment receives it."""

from typing import NamedTuple

import torch
from jaxtyping import Float, Integer
from torch import Tensor

from regimes.checks import count, finite, real, shapes
from regimes.data.teacher import Teacher
from regimes.errors import UserError, users_choice


class Dataset(NamedTuple):
    """Inputs (n, d) and targets (n, k) of disjoint training and test samples.

    Regression: classes is None. Two classes: k = 1, the first class is −1 and the second +1.
    More classes: k = classes, one-hot rows of zeros and a single one (not centred).
    `teacher` is the two-layer net that made the targets, where there is one.
    """

    name: str
    x_train: Float[Tensor, "n d"]
    y_train: Float[Tensor, "n k"]
    x_test: Float[Tensor, "n_test d"]
    y_test: Float[Tensor, "n_test k"]
    classes: int | None = None
    teacher: Teacher | None = None


def class_targets(
    labels: Integer[Tensor, " n"], classes: int, *, dtype: torch.dtype = torch.float64
) -> Float[Tensor, "n k"]:
    """Targets of labels 0..classes−1: one column of ∓1 for two classes, one-hot rows for more."""
    with users_choice():
        count("class_targets", "classes", classes)
        shapes("class_targets", labels=(labels, "n"))
    if labels.is_floating_point() or labels.is_complex():
        raise UserError(f"class_targets needs whole numbers as labels; got {labels.dtype}. Use labels.long().")
    if classes < 2:
        raise UserError(f"class_targets needs at least two classes; got {classes}. Choose two or more labels.")
    if len(labels) and (int(labels.min()) < 0 or int(labels.max()) >= classes):
        raise UserError(
            f"class_targets needs labels in 0..{classes - 1}; got {int(labels.min())}..{int(labels.max())}. "
            "Renumber the labels first."
        )
    if classes == 2:
        return (2 * labels.long() - 1).to(dtype)[:, None]
    return torch.nn.functional.one_hot(labels.long(), classes).to(dtype)


def classification_error(outputs: Float[Tensor, "*runs n k"], targets: Float[Tensor, "n k"]) -> Float[Tensor, "*runs"]:
    """Share of samples put into a wrong class: by the sign of the output if k = 1, by its largest entry otherwise."""
    shapes("classification_error", outputs=(outputs, "*runs n k"), targets=(targets, "n k"))
    real("classification_error", outputs=outputs, targets=targets, half=True)
    finite("classification_error", outputs=outputs, targets=targets)
    if targets.shape[-1] == 1:
        wrong = (outputs > 0) != (targets > 0)
        return wrong.squeeze(-1).to(outputs.dtype).mean(-1)
    return (outputs.argmax(-1) != targets.argmax(-1)).to(outputs.dtype).mean(-1)
