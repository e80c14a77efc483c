"""The numbers of diagnose along a loop, and the callbacks of the docs against stand-ins with the same hooks."""

import re
import sys
from copy import deepcopy
from math import nan
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import torch
from torch import nn

import regimes
from regimes.tangent.diagnosis.tracker import COSTLY, ROW, Tracker

PAGE = Path(__file__).parent.parent / "docs" / "own_loop.md"
X = torch.randn(20, 3, generator=torch.Generator().manual_seed(0))
Y = (X[:, 0] > 0).long()


def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 16), nn.Tanh(), nn.Dropout(0.2), nn.Linear(16, 2))


def steps(model, count):
    optimiser = torch.optim.SGD(model.parameters(), lr=0.5)
    model.train()
    for step in range(count):
        optimiser.zero_grad()
        nn.functional.cross_entropy(model(X), Y).backward()
        optimiser.step()
        yield step


@pytest.mark.slow
def test_a_tracker_follows_a_loop_and_leaves_it_as_it_is():
    followed, alone, said = net(), net(), []
    tracker = regimes.Tracker(followed, X, Y, every=5, say=said.append)
    state = torch.get_rng_state()
    for step in steps(followed, 11):
        tracker(step)
        assert followed.training
    torch.set_rng_state(state)
    for _ in steps(alone, 11):
        pass
    for one, other in zip(followed.parameters(), alone.parameters(), strict=True):
        assert torch.equal(one, other)  # dropout draws the same: nothing was disturbed
    assert [row["step"] for row in tracker.rows] == [0, 5, 10]
    assert said == tracker.rows
    motion = [row["weight_motion"] for row in tracker.rows]
    assert 0 < motion[0] < motion[1] < motion[2]
    assert set(ROW) <= set(tracker.rows[-1])
    whole = regimes.diagnose(net().eval(), followed.eval(), X, Y, points=100, kernel_points=50, omit=COSTLY)
    assert tracker.last.readings["linearisation_gap"].value == whole.readings["linearisation_gap"].value
    assert tracker.rows[-1]["verdict"] == whole.verdict


@pytest.mark.slow
def test_a_divergence_gives_a_row_and_ends_no_training():
    model = net()
    tracker = Tracker(model, X, Y)
    with torch.no_grad():
        model[0].weight.fill_(nan)
    tracker()
    assert tracker.rows[0]["verdict"] == "cannot tell"
    assert "finite parameter '0.weight'" in tracker.rows[0]["words"]
    assert tracker.rows[0]["linearisation_gap"] is None


@pytest.mark.slow
def test_what_cannot_be_followed_is_refused_before_the_training():
    with pytest.raises(ValueError, match="labels from 0 to 1"):
        Tracker(net(), X, Y + 5)


def printed(library):
    """The callback that the page prints for a library."""
    text = PAGE.read_text(encoding="utf-8")
    return next(code for code in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if library in code)


class Outputs(nn.Module):
    """A model that returns an object with logits, as those of Hugging Face do."""

    def __init__(self):
        super().__init__()
        self.inner = net()

    def forward(self, x):
        return {"logits": self.inner(x), "loss": None}


@pytest.mark.slow
def test_the_lightning_callback_works_with_a_stand_in_for_its_hooks(monkeypatch, capsys):
    lightning = ModuleType("lightning")
    lightning.Callback = type("Callback", (), {})
    monkeypatch.setitem(sys.modules, "lightning", lightning)
    names: dict = {}
    exec(printed("import lightning"), names)
    callback, module, trainer = names["Laziness"](X, Y), net(), SimpleNamespace(current_epoch=0)
    callback.on_train_start(trainer, module)
    for _ in steps(module, 3):
        callback.on_train_epoch_end(trainer, module)
        trainer.current_epoch += 1
    assert [row["step"] for row in callback.tracker.rows] == [0, 1, 2]
    assert len(capsys.readouterr().out.splitlines()) == 3


@pytest.mark.slow
def test_the_hugging_face_callback_works_with_a_stand_in_for_its_hooks(monkeypatch):
    transformers = ModuleType("transformers")
    transformers.TrainerCallback = type("TrainerCallback", (), {})
    monkeypatch.setitem(sys.modules, "transformers", transformers)
    names: dict = {}
    exec(printed("TrainerCallback"), names)
    model = Outputs()
    callback, state, start = names["Laziness"](X, Y), SimpleNamespace(global_step=0), deepcopy(model)
    callback.on_train_begin(None, state, None, model=model, train_dataloader=None)
    for _ in steps(model.inner, 4):
        state.global_step += 10
    callback.on_epoch_end(None, state, None, model=model, train_dataloader=None)
    (row,) = callback.tracker.rows
    assert row["step"] == 40
    assert row["weight_motion"] == regimes.diagnose(start.eval(), model.eval(), X, Y).readings["weight_motion"].value
