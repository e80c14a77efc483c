"""Settings whose switch is off are named, and no others."""

import pytest

from regimes.data.classification import NAMES as DATASETS
from regimes.training.config import TrainConfig, idle
from regimes.training.fitting import FitConfig


@pytest.mark.parametrize("dataset", DATASETS)
@pytest.mark.parametrize("switch", [{}, {"lap": True}, {"mean_field": True}, {"optimiser": "adam"}])
def test_a_recipe_has_no_idle_setting(dataset, switch):
    assert idle(TrainConfig(dataset=dataset, **switch)) == ""


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"multiplier": 3.0}, "multiplier (of least action: lap)"),
        ({"lap": True, "multiplier": 3.0}, ""),
        ({"lap": True, "memory": 0.5}, "memory (of level=running)"),
        ({"lap": True, "memory": 0.5, "level": "running"}, ""),
        ({"tau_start": "random"}, "tau_start (of blocks as particles: mean_field)"),
        ({"tau_start": "random", "mean_field": True}, ""),
        ({"optimiser": "adam", "momentum": 0.3}, "momentum (of sgd)"),
        ({"betas": [0.5, 0.9]}, "betas (of adam and adamw)"),
        ({"schedule": "cosine", "gamma": 0.3, "milestones": [2]}, "milestones, gamma (of schedule=multistep)"),
        ({"milestones": [2], "gamma": 0.3}, ""),
    ],
)
def test_what_has_no_effect_is_named(settings, named):
    assert idle(TrainConfig(**settings)) == (f" Settings without effect here: {named}." if named else "")
    if not any(name.startswith(("tau", "mean_field")) for name in settings):
        found = idle(FitConfig(model="net", risk="mse", **settings))
        assert found == (f" Settings without effect here: {named}." if named else "")
