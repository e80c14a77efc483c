"""One row a seed of each arm."""

from typing import Any

from regimes.experiments.lazy.ntk_real_data.config import CURVE, FINITE, LIMIT, NET, TUNED, Config
from regimes.experiments.lazy.ntk_real_data.nets import trained
from regimes.experiments.lazy.ntk_real_data.regressions import finite, infinite
from regimes.experiments.lazy.ntk_real_data.samples import parts
from regimes.experiments.lazy.ntk_real_data.theory import curve, limit


def measure(config: Config, points: list[dict[str, Any]]) -> list[dict[str, float]]:
    """Errors on the test images and what was chosen for them; distances to the limit; a curve beside its theory."""
    dataset, arm, n, width = (points[0][axis] for axis in ("dataset", "arm", "n", "width"))
    seeds = [point["seed"] for point in points]
    size = config.pool if arm == CURVE else n
    if arm == NET:
        return trained(config, width, seeds, [parts(config, dataset, n, seed) for seed in seeds])
    rows = []
    for seed in seeds:
        samples = parts(config, dataset, size, seed)
        if arm == FINITE:
            rows.append(finite(config, samples, width, seed))
        elif arm == LIMIT:
            rows.append(limit(config, samples, width, seed))
        elif arm == CURVE:
            rows.append(curve(config, samples, n, seed))
        else:
            rows.append(infinite(config, samples, tuned=arm == TUNED))
    return rows
