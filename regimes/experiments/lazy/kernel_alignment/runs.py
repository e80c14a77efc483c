"""How the kernels of each net, before and after training, are aligned with the true labels."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from regimes.experiments.lazy.scaled_images import runs
from regimes.experiments.lazy.scaled_settings import Config
from regimes.tangent.laziness import cka, kernel_drift


def chance(kernel: Float[Tensor, "n n"], y: Float[Tensor, "n k"]) -> float:
    """Mean centred alignment of a kernel with labels in random order: tr HΘH · tr HYYᵀH / ((n − 1) ‖HΘH‖ ‖HYYᵀH‖).

    Over all orders the mean of ⟨HΘH, P HYYᵀH Pᵀ⟩ is this product of traces over n − 1, as both have rows of sum 0.
    """
    centre = torch.eye(len(y), dtype=y.dtype) - 1 / len(y)
    one, two = centre @ kernel @ centre, centre @ y @ y.mT @ centre
    return float(one.trace() * two.trace() / ((len(y) - 1) * one.norm() * two.norm()))


def measure(config: Config, points: list[dict[str, Any]]) -> list[dict[str, float]]:
    """Alignments with the true labels before and after, on training and on held-out images, and what is due to chance.

    `drift` is ‖Θ_T − Θ_0‖/‖Θ_0‖ on held-out images.
    """
    rows, n = [], config.samples
    for one, before, end in runs(config, points):
        after = one.kernel(end.weights)
        row = {"ratio": end.ratio, "steps": float(end.steps), "reached": float(end.ratio <= config.ratio)}
        for part, some, y in (("train", slice(0, n), one.y), ("held", slice(n, None), one.y_held)):
            for time, kernel in (("before", before[some, some]), ("after", after[some, some])):
                row[f"{part}_{time}"] = float(cka(kernel, y @ y.mT))
                row[f"{part}_{time}_chance"] = chance(kernel, y)
        row["drift"] = float(kernel_drift(after[n:, n:], before[n:, n:]))
        rows.append(row)
    return rows
