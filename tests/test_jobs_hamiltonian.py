"""A Hamiltonian network on the command line: least action, then both jobs on its checkpoint."""

import json

import pytest
import torch
from command import command

from regimes.training.checkpoint import load_checkpoint, model_of

pytestmark = pytest.mark.slow


def test_a_hamiltonian_net_trains_with_least_action_and_goes_through_both_jobs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    small = ("--set", "arch_options.filters=4", "--set", "arch_options.blocks=2", "--train-size", "64")
    done = command("train", "--arch", "hamiltonian", "--lap", *small, "--epochs", "2", "--out", "net")
    assert done.code == 0, done.err
    assert "transport cost" in done.out
    gap = command("ot-gap", "net/last.pt", "--set", "points=12", "--out", "gap")
    assert gap.code == 0, gap.err
    looked = command("diagnose", "net/last.pt", "--out", "look")
    assert looked.code == 0, looked.err
    assert json.loads((tmp_path / "look" / "result.json").read_text())["readings"]["kernel_drift"]["value"] > 0
    segment = model_of(load_checkpoint(tmp_path / "net" / "last.pt")).double().segment(0)
    start = state = torch.randn(3, 4, 4, 4, dtype=torch.float64)
    for block in segment.blocks:
        state = block(state)
    for block in reversed(segment.blocks):
        state = block.inverse(state)
    torch.testing.assert_close(state, start)
