"""`train --module-wise`: its limits, end to end and least action with a fixed λ; resumed bit for bit; refusals."""

import json
from itertools import islice

import pytest
import torch
from command import command
from short_training import STEPS, train
from test_training_resume import assert_same, stop_after
from torch.testing import assert_close

import regimes
from regimes.errors import Interrupted, UserError
from regimes.models.build import build
from regimes.models.module_wise import module_wise
from regimes.processes import SINGLE
from regimes.training import results
from regimes.training.advice import advice
from regimes.training.assemble import assemble, check
from regimes.training.checkpoint import load_checkpoint
from regimes.training.config import TrainConfig
from regimes.training.loading import load
from regimes.training.loop import descend
from regimes.training.module_wise import MinimisingMovement
from regimes.training.side_by_side import refuse_unfit

GREEDY = {"lap": False, "module_wise": 2, "movement_step": 0.5}


@pytest.fixture(autouse=True)
def without_figure(monkeypatch):
    monkeypatch.setattr(results, "_figure", lambda folder, rows: {})


def settings(**changes):
    return TrainConfig(dataset="digits", **({"module_wise": 2} | changes))


def weights(path):
    return load_checkpoint(path / "last.pt").state["model"]


def after_steps(config: TrainConfig, count: int = 3):
    """The weights after some steps, and the last step."""
    setup = assemble(config)
    steps = list(islice(descend(setup.training, setup.batches, epochs=1), count))
    return setup.training.model.state_dict(), steps[-1]


SMALL = {"arch": "dense", "arch_options": {"blocks": 3, "width": 6, "batch_norm": True}, "batch": 16, "train_size": 96}


def test_one_module_without_transport_is_training_end_to_end():
    found, step = after_steps(settings(module_wise=1, **SMALL))
    expected, other = after_steps(settings(module_wise=None, **SMALL))
    assert_close(found, expected, rtol=0, atol=0)
    assert_close(step.risk, other.risk, rtol=0, atol=0)
    assert step.transport is None


@pytest.mark.parametrize("changes", [{}, {"p": 3.0}, {"convention": "sum_over_features"}])
def test_one_module_is_least_action_with_twice_the_step_as_its_multiplier(changes):
    found, step = after_steps(settings(module_wise=1, movement_step=1.5, **changes, **SMALL))
    fixed = {"lap": True, "multiplier": 3.0, "growth": 0.0, "form": "divided"}
    expected, other = after_steps(settings(module_wise=None, **fixed, **changes, **SMALL))
    assert_close(found, expected)
    for name in ("value", "risk", "transport", "penalty"):
        assert_close(getattr(step, name), getattr(other, name))


def test_a_step_adds_up_its_modules_and_tells_the_risk_of_the_last():
    setup = assemble(settings(movement_step=0.25, module_wise=3, **SMALL))
    model, objective = setup.training.model, setup.training.objective
    model.train()
    x, labels = next(iter(setup.batches.epoch(0)))
    losses = [objective(turn, labels) for turn in model.turns(x, trace=True)]
    step = next(descend(setup.training, setup.batches, epochs=1))
    assert_close(step.value, sum(loss.value for loss in losses).detach())
    assert_close(step.risk, losses[-1].risk)
    assert_close(step.transport, sum(loss.transport for loss in losses))
    assert_close(step.penalty, step.transport / (2 * 0.25))


def test_the_weights_of_the_network_start_as_those_of_training_end_to_end():
    greedy, whole = (assemble(settings(module_wise=count, **SMALL)).training.model for count in (3, None))
    start = greedy.state_dict()
    assert_close({name: start[name] for name in whole.state_dict()}, whole.state_dict(), rtol=0, atol=0)


@pytest.mark.slow
def test_a_larger_penalty_moves_the_states_less(tmp_path):
    costs = []
    for step in (100.0, 0.01):
        train(tmp_path / str(step), **GREEDY | {"movement_step": step})
        costs.append(json.loads((tmp_path / str(step) / "result.json").read_text())["last"]["transport"])
    assert costs[1] < costs[0] / 2


@pytest.mark.slow
@pytest.mark.parametrize("changes", [{}, {"movement_step": None, "module_wise": 1}])
@pytest.mark.parametrize("steps", [1, STEPS, 2 * STEPS + 2])
def test_two_parts_are_the_whole_bit_for_bit(tmp_path, monkeypatch, steps, changes):
    train(tmp_path / "whole", **GREEDY | changes)
    stop_after(monkeypatch, steps)
    with pytest.raises(Interrupted, match=f"after {steps} of 16 steps"):
        train(tmp_path / "parts", **GREEDY | changes)
    monkeypatch.undo()
    monkeypatch.setattr(results, "_figure", lambda folder, rows: {})
    train(tmp_path / "parts", **GREEDY | changes)
    assert_same(tmp_path / "parts", tmp_path / "whole")


@pytest.mark.slow
def test_a_run_loads_as_its_network_alone(tmp_path):
    train(tmp_path, **GREEDY)
    model = load(tmp_path, weights="last").model
    kept = weights(tmp_path)
    assert not any("auxiliaries" in name for name in model.state_dict())
    assert any("auxiliaries" in name for name in kept)
    assert_close(model.state_dict(), {name: kept[name] for name in model.state_dict()}, rtol=0, atol=0)
    title = (tmp_path / "table.md").read_text(encoding="utf-8").splitlines()[0]
    assert title.endswith("minimising movement, τ = 0.5, 2 modules trained greedily")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"arch": "dense", "arch_options": {"blocks": 3}, "module_wise": 4}, "there are 3: take at most 3"),
        ({"arch": "vgg11"}, "vgg11 cannot be trained with --module-wise: it has no residual blocks"),
        ({"arch": "odenet", "arch_options": {"simplex": True}}, "odenet cannot be trained with --module-wise"),
        ({"reversible": True}, "--reversible rebuilds states"),
        ({"mean_field": True}, "--mean-field sorts blocks"),
        ({"lap": True}, "--lap moves its λ"),
        ({"compile": True}, "compile compiles the network as a whole"),
        ({"module_wise": None, "movement_step": 1.0}, "pass --module-wise K with it"),
    ],
)
def test_what_does_not_go_with_modules_is_refused_in_one_line(changes, message):
    with pytest.raises(UserError, match=message) as found:
        check(settings(**changes))
    assert "\n" not in str(found.value)


@pytest.mark.parametrize(("step", "larger"), [(0.01, True), (1.0, False)])
def test_after_a_divergence_a_small_step_is_advised_against(step, larger):
    config = settings(movement_step=step, **SMALL)
    assert ("a larger movement_step" in advice(config, assemble(config), kept=False)) == larger


def test_several_processes_are_refused(monkeypatch):
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 2)
    with pytest.raises(UserError, match="--module-wise has not been tried with 2 processes"):
        check(settings())


def test_seeds_side_by_side_are_refused():
    with pytest.raises(UserError, match="side by side are trained end to end"):
        refuse_unfit(settings(seeds=2), SINGLE)


def fit_in_modules(path, **changes):
    torch.manual_seed(0)
    model = module_wise(build("dense", (5,), 3, blocks=2, width=6), 2, (5,))
    start = model.auxiliaries[0][1].weight.detach().clone()
    x = torch.randn(40, 5)
    regimes.fit(model, (x, x[:, :3].argmax(1)), out=path / "run", epochs=2, batch=16, lr=0.02, **changes)
    return (model.auxiliaries[0][1].weight - start).abs().max()


def test_fit_trains_modules_each_by_its_own_classifier(tmp_path):
    assert fit_in_modules(tmp_path) > 1e-3


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"lap": True}, "fit: lap moves its λ by the risk of the whole network"),
        ({"blocks": "segments.?.blocks.?"}, "has blocks and an output of its own; got blocks"),
        ({"output": torch.exp, "shortcuts": ()}, "got shortcuts, output"),
    ],
)
def test_fit_refuses_what_does_not_go_with_modules_before_there_is_a_folder(tmp_path, changes, message):
    with pytest.raises(UserError, match=message):
        fit_in_modules(tmp_path, **changes)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", ["movement_step", "multiplier", "gain"])
def test_a_number_that_training_would_take_for_zero_is_refused(name):
    with pytest.raises(ValueError, match="should be 0 or of size"):
        settings(**{name: 1e-320})


@pytest.mark.parametrize("step", [0.0, -1.0, float("nan"), float("inf")])
def test_a_step_that_is_no_positive_number_is_refused(step):
    with pytest.raises(ValueError, match="step"):
        MinimisingMovement(step=step)


def test_a_plain_output_has_no_transport():
    with pytest.raises(ValueError, match="needs the steps of residual blocks"):
        MinimisingMovement(step=1.0)(torch.zeros(2, 3), torch.tensor([0, 1]))


@pytest.mark.slow
def test_the_tests_of_a_trained_network_take_its_checkpoint(tmp_path):
    train(tmp_path / "run", **GREEDY)
    head = json.loads((tmp_path / "run" / "result.json").read_text(encoding="utf-8"))
    assert (head["module_wise"], head["movement_step"]) == (GREEDY["module_wise"], GREEDY.get("movement_step"))
    for name, more in (("ot-gap", ["--points", "20"]), ("diagnose", ["--set", "points=20"])):
        ended = command(name, str(tmp_path / "run" / "last.pt"), *more, "--out", str(tmp_path / name))
        assert ended.code == 0, ended.err
    assert "Trained module-wise; the tangent model is that of the whole network" in (
        tmp_path / "diagnose" / "table.md"
    ).read_text(encoding="utf-8")
