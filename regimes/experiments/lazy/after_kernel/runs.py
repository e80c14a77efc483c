"""Each net, and the regressions with its kernels of before and after, all at the same training loss."""

from typing import Any

from torch import Tensor

from regimes.data.dataset import classification_error
from regimes.experiments.lazy.scaled_images import runs
from regimes.experiments.lazy.scaled_settings import Config
from regimes.tangent.laziness import tangent_distance
from regimes.tangent.regression import GradientFlow


def stopped(kernel: Tensor, y: Tensor, risk: float) -> Tensor:
    """Held-out values of the gradient flow from zero with a kernel on all points, when its training risk is `risk`."""
    n = len(y)
    flow = GradientFlow(kernel[:n, :n], y)
    return flow.test(flow.time_to(risk), kernel[n:, :n])


def measure(config: Config, points: list[dict[str, Any]]) -> list[dict[str, float]]:
    """Errors and mean squares on held-out images of net, start kernel and after kernel; their relative distances.

    The regressions are on the true labels, also with the after kernel of a net that was trained on shuffled ones.
    """
    rows, n = [], config.samples
    for point, (one, before, end) in zip(points, runs(config, points), strict=True):
        risk = end.ratio * float(one.y.square().mean()) / 2
        found = {
            "net": one.outputs(end.weights, point["alpha"])[n:],
            "start": stopped(before, one.y, risk),
            "after": stopped(one.kernel(end.weights), one.y, risk),
        }
        row = {"ratio": end.ratio, "steps": float(end.steps), "reached": float(end.ratio <= config.ratio)}
        for name, outputs in found.items():
            row[f"{name}_error"] = float(classification_error(outputs, one.y_held))
            row[f"{name}_square"] = float((outputs - one.y_held).square().mean())
        for first, second in (("net", "start"), ("after", "start"), ("net", "after")):
            row[f"{first}_{second}"] = float(tangent_distance(found[first], found[second]))
        rows.append(row)
    return rows
