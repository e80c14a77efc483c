"""Nets of one kind are trained as one ensemble; each is then judged by itself, from its two states and its samples."""

from typing import Any

from regimes.experiments.lazy.diagnose_error_rate.config import Config
from regimes.experiments.lazy.diagnose_error_rate.nets import KINDS, trained
from regimes.tangent.diagnosis.diagnose import OPTIONAL, diagnose

SAID = {"lazy": 1.0, "cannot tell": 0.0, "not lazy": -1.0}


def measure(config: Config, points: list[dict[str, Any]]) -> list[dict[str, float]]:
    """One row a net: its regime (1 lazy, −1 not), what was said (0: cannot tell), and the gap that decided.

    `gap` is the smaller of the two linearisation gaps, `ratio` the training loss at the end over that at the start.
    """
    name, seeds = points[0]["kind"], [config.first_seed + point["seed"] for point in points]
    sizes = {"count": config.samples, "inputs": config.inputs, "width": config.width}
    found = trained(name, seeds, steps=config.steps, ratio=config.loss_ratio, **sizes)
    truth, rows = 1.0 if KINDS[name].lazy else -1.0, []
    for start, end, x, y, ratio in zip(*found, strict=True):
        judged = diagnose(start, end, x, y, omit=OPTIONAL - {"weight_motion"})
        gaps = [judged.readings[each] for each in ("linearisation_gap", "gap_after_decay")]
        gap = min(one[:3] for one in gaps if one.value is not None)
        said = SAID[judged.verdict]
        rows.append(
            {
                "truth": truth,
                "said": said,
                "right": float(said == truth),
                "wrong": float(said == -truth),
                "gap": gap[0],
                "gap_low": gap[1],
                "gap_high": gap[2],
                "motion": judged.readings["weight_motion"].value,
                "ratio": float(ratio),
            }
        )
    return rows
