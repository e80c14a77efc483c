"""Every architecture by name: one step of least action on real images, its parts, its checkpoint, its clouds."""

import math

import numpy as np
import pytest

from regimes.errors import Diverged
from regimes.jobs.ot_gap import stages
from regimes.jobs.ot_gap.config import Config
from regimes.lab.hashed import hashed
from regimes.models.build import ARCHITECTURES
from regimes.training.checkpoint import load_checkpoint, model_of
from regimes.training.config import TrainConfig
from regimes.training.run import train_one
from regimes.transport.gap import ot_gap

SMALL = {"dense", "resnet9", "preact_resnet", "resnet20"}
STAGES = {"dense": 1, "resnet9": 1, "resnext50": 4, "hamiltonian": 1, "contractive": 1, "odenet": 1}


@pytest.mark.parametrize(
    "arch",
    [
        pytest.param(name, marks=() if name in SMALL else pytest.mark.slow)
        for name in ARCHITECTURES
        if name != "vgg11"  # no residual blocks, so no action to be least: tests/test_models_vgg.py
    ],
)
@pytest.mark.slow
def test_an_architecture_goes_from_a_step_of_training_to_its_clouds(arch, tmp_path):
    config = TrainConfig(
        dataset="digits", arch=arch, lap=True, max_steps=1, batch=8, validation=16, test_size=16, lr=1e-4
    )
    try:
        result = train_one(config, tmp_path / "run").result
    except Diverged as ended:  # after one step the running statistics of a deep net belong to other weights
        result = ended.outcome.result
    model = model_of(load_checkpoint(tmp_path / "run" / "last.pt"))
    assert len(model.segments) == STAGES.get(arch, 3)
    row = load_checkpoint(tmp_path / "run" / "last.pt").rows[0]
    energies = [row[f"energy_{number}"] for number in range(1, 1 + sum(len(s.blocks) for s in model.segments))]
    assert all(math.isfinite(energy) and energy >= 0 for energy in energies)
    assert math.isfinite(result["last"]["test_risk"])
    case = stages.open_case(
        str(tmp_path / "run" / "last.pt"), Config(checkpoints=[hashed(tmp_path / "run" / "last.pt")], points=6)
    )
    found, accuracy = stages.transported(case, 2.0, "cpu")
    assert [stage.number for stage in found] == list(case.stages)
    assert 0 <= accuracy <= 1
    for stage in found:
        assert np.isfinite(stage.t).all()
        assert ot_gap(stage.x, stage.t).certified
