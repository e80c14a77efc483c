"""The names by which scripts outside the repository know parts of the package."""

from importlib import import_module

import pytest

NAMES = {
    "conventions": "generator",
    "data.augment": "compose flip random_crop",
    "data.batches": "Batches",
    "data.classification": "CONSTANTS Labelled Normalise",
    "models.build": "build",
    "models.initialise": "initialise kaiming",
    "models.timed": "timed",
    "tangent.kernel": "ntk",
    "training.ensemble": "Ensemble descend_together",
    "training.layout": "channels_last",
    "training.loop": "Training descend",
    "training.objectives": "LeastAction Plain multiplied",
    "training.runtime": "autocast prepared",
    "training.speed": "matrix_rate training_flops",
    "transport.discrete": "exact_transport",
    "transport.pricing": "Pricer",
}


@pytest.mark.parametrize("module", NAMES)
def test_scripts_find_what_they_import(module):
    found = import_module(f"regimes.{module}")
    assert [name for name in NAMES[module].split() if not hasattr(found, name)] == []
