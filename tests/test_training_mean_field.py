"""Training of (θ, τ) through `train`: what the settings do, what is reported, and what ot-gap sees of it."""

import json
from functools import reduce

import pytest
import torch
from command import command
from short_training import short, train
from torch.testing import assert_close

from regimes.models.timed import TimedSegment, timed_segments
from regimes.training import results
from regimes.training.assemble import assemble, check
from regimes.training.checkpoint import load_checkpoint, model_of
from regimes.training.loop import descend

DEEP = {"arch_options": {"blocks": 5, "width": 6, "batch_norm": True}}
MOVED = {"mean_field": True, "tau_lr_factor": 4.0, **DEEP}


@pytest.fixture(autouse=True)
def without_figure(monkeypatch):
    monkeypatch.setattr(results, "_figure", lambda folder, rows: {})


def trained(epochs=2, **changes):
    """The network after some epochs in float64, by the objects that `train` works with."""
    assembly = assemble(short(**{**DEEP, **changes}))
    training = assembly.training
    training.model.double()
    batches = assembly.batches
    draw = batches.normalise
    batches.normalise = lambda x: draw(x).double()
    for _ in descend(training, batches, epochs=epochs):
        pass
    return training.model


def weights(model):
    return {name: value for name, value in model.state_dict().items() if not name.endswith(("times", "order"))}


@pytest.mark.parametrize("lap", [True, False])
def test_frozen_times_on_the_uniform_grid_train_as_the_plain_net(lap):
    plain, held = trained(lap=lap), trained(lap=lap, mean_field=True, tau_lr_factor=0)
    assert_close(weights(held), weights(plain), rtol=1e-6, atol=1e-6)
    assert all(segment.weights().tolist() == pytest.approx([1] * 5, abs=1e-6) for segment in timed_segments(held))
    moved = trained(lap=lap, mean_field=True)
    assert not torch.allclose(weights(moved)["head.weight"], weights(plain)["head.weight"], atol=1e-3)


def test_the_same_holds_of_the_whole_command(tmp_path):
    plain, held = (train(tmp_path / name, epochs=1, **DEEP, **changes) for name, changes in (
        ("plain", {}), ("held", {"mean_field": True, "tau_lr_factor": 0.0}),
    ))  # fmt: skip
    assert held.result["last"]["test_risk"] == pytest.approx(plain.result["last"]["test_risk"], rel=1e-4)
    assert held.result["last"]["times"]["exchanges"] == 0
    assert "times" not in plain.result["last"]


def test_while_no_block_passes_another_the_moment_of_sorting_is_the_same():
    every, late, never = (trained(**{**MOVED, "tau_lr_factor": 0.01, "tau_sort": sort}) for sort in (
        "forward", "epoch", "never",
    ))  # fmt: skip
    assert timed_segments(every)[0].exchanges() == 0
    for other in (late, never):
        assert_close(other.state_dict(), every.state_dict(), rtol=0, atol=0)


@pytest.mark.parametrize(("sort", "passes"), [("forward", True), ("epoch", True), ("never", False)])
def test_blocks_pass_each_other_where_they_are_sorted(sort, passes):
    (segment,) = timed_segments(trained(**MOVED, tau_start="random", tau_sort=sort))
    assert (segment.exchanges() > 0) == passes
    assert sorted(segment.order.tolist()) == list(range(5))
    if sort == "epoch":
        assert (segment.weights()[1:] >= 0).all()  # the last epoch has just ended


def test_times_have_a_learning_rate_and_a_decay_of_their_own():
    config = short(mean_field=True, tau_lr_factor=0.1, tau_weight_decay=0.02, weight_decay=0.3, momentum=0.0, lap=False)
    assembly = assemble(config)
    model, optimiser = assembly.training.model, assembly.training.optimizer
    (segment,) = timed_segments(model)
    own = [segment.times]
    assert [len(group["params"]) for group in optimiser.param_groups] == [len(list(model.parameters())) - 1, 1]
    assert optimiser.param_groups[1]["params"][0] is own[0]
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    own[0].grad = torch.tensor([3.0, -1.0])
    weight = model.head.weight.clone()
    optimiser.step()
    assert_close(segment.times, torch.tensor([0.5, 1.0]) * (1 - 0.005 * 0.02) - 0.005 * torch.tensor([3.0, -1.0]))
    assert_close(model.head.weight, weight * (1 - 0.05 * 0.3))
    for _ in descend(assembly.training, assembly.batches, epochs=3):
        pass
    assert [group["lr"] for group in optimiser.param_groups] == pytest.approx(
        [0.005, 0.0005]
    )  # the milestone is for both


def test_by_default_a_weight_of_a_block_moves_as_a_weight_of_the_net_would():
    config = short(arch="preact_resnet", arch_options={"depth": 20}, mean_field=True, lr=0.1)
    groups = assemble(config).training.optimizer.param_groups
    assert [len(group["params"]) for group in groups[1:]] == [1, 1, 1]
    assert [group["lr"] for group in groups] == pytest.approx([0.1, 0.1 / 9, 0.1 / 4, 0.1 / 4])
    with torch.no_grad():
        (segment, *_) = timed_segments(assemble(config).training.model)
        before = segment.weights()
        segment.times -= 0.1 / 9 * torch.tensor([0.0, 0.0, 3.0])  # of dE/dτ³ = L dE/dw³ with dE/dw³ = 1
        assert_close(before - segment.weights(), 0.1 * torch.tensor([0.0, 0.0, 1.0]))


def test_clipping_shortens_the_gradient_of_the_times_alone():
    config = short(mean_field=True, tau_lr_factor=1, tau_clip=0.5, momentum=0.0, lap=False, weight_decay=0.0)
    training = assemble(config).training
    (segment,) = timed_segments(training.model)
    head = training.model.head.weight
    before = segment.times.detach().clone(), head.detach().clone()
    for scale, length in ((1.0, 0.5), (0.01, 0.05)):  # from norm 5, and of norm 0.05
        segment.times.grad, head.grad = scale * torch.tensor([3.0, 4.0]), torch.full_like(head, 7.0)
        training.optimizer.step()
        assert_close((before[0] - segment.times).norm(), torch.tensor(0.05 * length), rtol=1e-4, atol=0)
        assert_close(head, before[1] - 0.05 * 7)
        before = segment.times.detach().clone(), head.detach().clone()


def test_without_a_first_gap_the_first_block_has_weight_one_throughout():
    (segment,) = timed_segments(trained(**MOVED, tau_first_gap=False))
    assert segment.weights()[0] == 1
    assert (segment.weights()[1:] - 1).abs().max() > 1e-3


def test_random_times_are_in_order_and_follow_the_seed():
    def times(**changes):
        (segment,) = timed_segments(assemble(short(**MOVED, tau_start="random", **changes)).training.model)
        return segment.times.detach()

    assert_close(times(), times(), rtol=0, atol=0)
    assert not torch.equal(times(), times(seed=1))
    assert (times().diff() >= 0).all()
    assert 0 <= times()[0] < times()[-1] <= 1


def test_drawn_times_leave_the_weights_as_they_are():
    plain, drawn = (assemble(short(**DEEP, **changes)).training.model for changes in (
        {}, {"mean_field": True, "tau_start": "random"},
    ))  # fmt: skip
    assert_close(weights(drawn), weights(plain), rtol=0, atol=0)


@pytest.mark.parametrize(
    ("arch", "reason"), [("resnext50", "an activation after the sum"), ("vgg11", "no residual blocks")]
)
def test_nets_that_have_no_particles_are_refused(arch, reason):
    with pytest.raises(ValueError, match=f"{arch} cannot be trained with --mean-field: .*{reason}.*resnet20"):
        check(short(arch=arch, arch_options={}, dataset="cifar10", mean_field=True, lap=False))


def test_the_command_line_refuses_in_one_line_and_makes_no_folder(tmp_path):
    ended = command("train", "--dataset", "cifar100", "--mean-field", "--out", str(tmp_path / "run"))
    assert ended.code == 2
    assert ended.err.count("\n") == 1
    assert not (tmp_path / "run").exists()


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run whose blocks have passed each other."""
    path = tmp_path_factory.mktemp("mean_field") / "run"
    flags = ("--mean-field", "--lap", "--arch", "dense", "--train-size", "56", "--batch", "16", "--epochs", "3")
    sets = ("arch_options={blocks: 5, width: 6, batch_norm: true}", "tau_lr_factor=4", "validation=30", "test_size=40")
    ended = command("train", *flags, *(part for one in sets for part in ("--set", one)), "--out", str(path))
    assert ended.code == 0, ended
    return path, ended, json.loads((path / "result.json").read_text())


@pytest.mark.slow
def test_the_results_report_how_far_times_have_moved(run):
    path, ended, result = run
    assert result["mean_field"] is True
    held = load_checkpoint(path / "last.pt")
    model = model_of(held)
    (segment,) = timed_segments(model)
    with torch.no_grad():
        model(torch.zeros(2, 1, 8, 8))  # sorts
        found, moved = result["last"]["times"], segment.weights()
    assert [found[f"tau_{k}"] for k in range(1, 6)] == pytest.approx(segment.times.tolist())
    assert (found["smallest_weight"], found["largest_weight"]) == pytest.approx(
        (moved.min().item(), moved.max().item())
    )
    assert found["exchanges"] == segment.exchanges() == held.rows[-1]["exchanges"]
    assert "exchanges" in ended.out
    assert "blocks as particles" in (path / "table.md").read_text()


@pytest.mark.slow
def test_a_checkpoint_is_rebuilt_with_its_times(run):
    held = load_checkpoint(run[0] / "last.pt")
    model = model_of(held)
    assert isinstance(model.segment(0), TimedSegment)
    assert_close(model.state_dict(), held.state["model"], rtol=0, atol=0)
    old = held._replace(config={key: value for key, value in held.config.items() if "tau" not in key})
    assert_close(model_of(old).state_dict(), held.state["model"], rtol=0, atol=0)  # absent settings have their defaults


def test_the_maps_of_its_blocks_make_up_the_map_of_the_stage(run):
    segment = model_of(load_checkpoint(run[0] / "last.pt")).double().segment(0)
    assert segment.exchanges() > 0
    z = torch.randn(4, 6, dtype=torch.float64)
    assert_close(reduce(lambda state, move: move(state), segment.maps(), z), segment.transport(z))
    plain = reduce(lambda state, block: block(state), segment.blocks, z)
    assert not torch.allclose(plain, segment.transport(z), atol=1e-3)


@pytest.mark.slow
def test_ot_gap_judges_a_net_with_times(run, tmp_path):
    ended = command("ot-gap", str(run[0] / "last.pt"), "--points", "30", "--out", str(tmp_path / "gap"))
    assert ended.code == 0, ended
    found = json.loads((tmp_path / "gap" / "result.json").read_text())["checkpoints"][0]
    assert found["certified"]
    assert len(found["block_asymmetry"]) == 5


def test_the_figure_has_panels_for_the_times(run):
    from regimes.lab.training_figure import draw

    held = load_checkpoint(run[0] / "last.pt")
    made = draw(held.rows)
    assert len([axes for axes in made.axes if axes.get_ylabel().startswith("time τ")]) == 1
    plain = [{name: row[name] for name in row if "tau" not in name and name != "exchanges"} for row in held.rows]
    seen, without = (sum(axes.axison for axes in each.axes) for each in (made, draw(plain)))
    assert seen == without + 3
