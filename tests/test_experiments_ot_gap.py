"""The command ot-gap on checkpoints whose map is known."""

import json
import math

import hand_made_checkpoint as made
import numpy as np
import pytest
import torch
from command import command
from torch.testing import assert_close

import regimes
from regimes import experiments
from regimes.jobs import ot_gap
from regimes.jobs.ot_gap import stages
from regimes.jobs.ot_gap.config import Config, folder_stem, labels
from regimes.jobs.ot_gap.measure import PARTS, measure_stage
from regimes.lab.hashed import File
from regimes.transport.energy import measure

pytestmark = pytest.mark.slow  # each test rests on trained nets
NAMED = {
    *("cost_network", "cost_ot", "gap", "relative_gap", "dual_value", "max_violation", "certified", "worst_cycle"),
    *("brenier_asymmetry", "brenier_asymmetry_se", "min_eigenvalue", "straightness", "points", "dim", "power"),
}
FILES = {"config.yaml", "run.json", "measurement.npz", "result.json", "table.md"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("ot_gap")


@pytest.fixture(scope="module")
def checkpoints(folder):
    """Circles: a gradient of a convex function, a rotation by 20 degrees, a shear."""
    return {
        "gradient": made.write(folder / "gradient.pt", "circles", "dense", made.convex_gradients, blocks=1, hidden=8),
        "rotation": made.write(
            folder / "rotation.pt", "circles", "dense", made.linear(made.turned(20)), blocks=1, hidden=4
        ),
        "shear": made.write(folder / "shear.pt", "circles", "dense", made.linear(made.SHEAR), blocks=1, hidden=4),
    }


@pytest.fixture(scope="module")
def side_by_side(folder, checkpoints):
    """One command for the three; its output and its result.json."""
    ended = command("ot-gap", *map(str, checkpoints.values()), "--points", "120", "--out", str(folder / "three"))
    assert (ended.code, ended.err) == (0, "")
    return ended, json.loads((folder / "three" / "result.json").read_text())


def entry(result, name):
    (found,) = [one for one in result["checkpoints"] if one["label"].endswith(name)]
    return found


def test_the_gradient_of_a_convex_function_passes(side_by_side):
    found = entry(side_by_side[1], "gradient")
    assert found["verdict"] == "optimal as far as these tests see"
    assert (found["gap"], found["certified"], found["worst_cycle"]) == (0.0, True, 0.0)
    assert found["brenier_asymmetry"] < 1e-12
    assert found["min_eigenvalue"] > 0.99
    assert_close(found["straightness"], 1.0)  # one block
    assert_close(found["action"], found["cost_network"])
    assert "an OT map as far as these tests see" in found["words"]
    assert "would have seen" in found["words"]


@pytest.mark.parametrize("name", ["rotation", "shear"])
def test_a_rotation_and_a_shear_fail_both_tests(side_by_side, name):
    found = entry(side_by_side[1], name)
    assert found["verdict"] == "not optimal"
    assert (found["exact_evidence"], found["infinitesimal_evidence"]) == ("gap", "violated")
    assert found["certified"]
    assert found["relative_gap"] > 0.01
    assert found["worst_cycle"] > 0
    assert_close(found["gap"], found["cost_network"] - found["cost_ot"], rtol=1e-9, atol=0)  # the sums round


def test_the_asymmetry_is_the_known_one(side_by_side):
    found = entry(side_by_side[1], "rotation")
    assert_close(found["brenier_asymmetry"], math.tan(math.radians(20)) ** 2, rtol=1e-4, atol=0)  # float32
    assert_close(found["min_eigenvalue"], math.cos(math.radians(20)), rtol=1e-4, atol=0)  # float32
    assert_close(found["lipschitz"], 1.0, rtol=1e-5, atol=0)  # float32 weights of an isometry


def test_the_numbers_are_those_of_the_function_for_arrays(side_by_side, checkpoints):
    case = stages.open_case(str(checkpoints["rotation"]), Config(checkpoints=[File(path="", sha256="")], points=120))
    (stage,), accuracy = stages.transported(case, 2.0, "cpu")
    direct, found = regimes.ot_gap(stage.x, stage.t), entry(side_by_side[1], "rotation")
    for name in ("cost_network", "cost_ot", "gap", "relative_gap"):
        assert_close(found[name], getattr(direct, name))
    assert_close(found["worst_cycle"], direct.exact.worst_cycle.gain)
    assert (found["points"], found["dim"]) == (120, 2) == (direct.exact.points, direct.exact.dim)
    assert (direct.verdict, direct.judgement.exact) == (found["verdict"], found["exact_evidence"])
    assert_close(found["accuracy"], accuracy)


def test_every_number_has_its_name(side_by_side):
    for found in side_by_side[1]["checkpoints"]:
        assert set(found) >= NAMED
        assert all(found[name] is not None for name in NAMED)
        assert found["sha256"]
        assert found["blocks"] == len(found["block_step_length"]) == len(found["block_asymmetry"]) == 1


def test_the_screen_shows_the_checkpoints_side_by_side(side_by_side, checkpoints):
    ended, _ = side_by_side
    assert all(name in ended.out for name in checkpoints)
    for part in ("exact OT cost", "relative gap", "Brenier asymmetry", "straightness", "not an OT map", "the gap sees"):
        assert part in ended.out


def test_there_is_a_figure_for_each_and_everything_else_once(side_by_side, folder):
    figures = {f"figure-{number}.{kind}" for number in (1, 2, 3) for kind in ("png", "pdf")}
    assert {file.name for file in (folder / "three").iterdir()} == FILES | figures
    assert (folder / "three" / "figure-1.png").stat().st_size > 20_000


def test_judge_redoes_the_verdict_without_measuring(side_by_side, folder, monkeypatch):
    monkeypatch.setattr(ot_gap, "measure_stage", lambda *_: pytest.fail("judge must not measure"))
    run = folder / "three"
    before = {file.name: file.read_bytes() for file in run.iterdir()}
    for name in ("result.json", "table.md", "figure-2.png"):
        (run / name).unlink()
    assert command("judge", str(run)).code == 0
    assert {file.name: file.read_bytes() for file in run.iterdir()} == before


def test_the_same_command_again_measures_nothing_and_another_is_refused(side_by_side, folder, checkpoints, monkeypatch):
    monkeypatch.setattr(ot_gap, "measure_stage", lambda *_: pytest.fail("it is measured already"))
    arguments = [*map(str, checkpoints.values()), "--out", str(folder / "three")]
    assert command("ot-gap", *arguments, "--points", "120").code == 0
    ended = command("ot-gap", *arguments, "--points", "121")
    assert ended.code == 2
    assert "points is 120 there, 121 here" in ended.err


@pytest.mark.slow
def test_checkpoints_of_one_name_are_measured_side_by_side_without_out(checkpoints, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for place, name in (("a", "gradient"), ("b", "rotation")):
        file = tmp_path / place / "seed0" / "last.pt"
        file.parent.mkdir(parents=True)
        file.write_bytes(checkpoints[name].read_bytes())
        ended = command("ot-gap", str(file.relative_to(tmp_path)), "--points", "80")
        assert ended.code == 0, ended.err
    one, other = (tmp_path / "runs").iterdir()
    assert all(run.name.startswith("ot-gap-seed0-last-") for run in (one, other))


def test_another_exponent_is_heeded(folder, checkpoints, monkeypatch):
    monkeypatch.chdir(folder)
    arguments = (str(checkpoints["gradient"]), "--points", "80", "--p", "1.5", "--seed", "3")
    assert command("ot-gap", *arguments).code == 0
    (run,) = (folder / "runs").iterdir()
    assert run.name.startswith("ot-gap-")
    (found,) = json.loads((run / "result.json").read_text())["checkpoints"]
    case = stages.open_case(
        str(checkpoints["gradient"]), Config(checkpoints=[File(path="", sha256="")], points=80, seed=3)
    )
    (stage,), _ = stages.transported(case, 1.5, "cpu")
    assert_close(found["cost_network"], float((np.linalg.norm(stage.t - stage.x, axis=1) ** 1.5).mean()))
    assert found["p"] == 1.5
    assert found["brenier_asymmetry"] > 1e-4  # a gradient is the right form at p = 2 only
    assert (run / "figure.png").exists()


def test_a_solve_that_is_stopped_leaves_a_bracket(folder, checkpoints):
    arguments = (str(checkpoints["rotation"]), "--points", "150", "--seconds", "1e-9", "--out", str(folder / "short"))
    ended = command("ot-gap", *arguments)
    assert ended.code == 0
    (found,) = json.loads((folder / "short" / "result.json").read_text())["checkpoints"]
    assert (found["certified"], found["cost_ot"], found["gap"], found["relative_gap"]) == (False, None, None, None)
    assert found["gap_low"] <= found["gap_high"]
    assert "stopped early" in found["words"]
    assert "in [" in ended.out


def test_data_that_are_no_longer_there_are_said_to_be_those_of_the_checkpoint(folder):
    path = made.write(folder / "moved.pt", "mnist", "dense", blocks=1, hidden=4)
    ended = command("ot-gap", str(path), "--data-dir", str(folder / "nowhere"), "--out", str(folder / "moved"))
    assert (ended.code, ended.out) == (2, "")
    assert str(path) in ended.err
    assert "--data-dir" in ended.err
    assert ended.err.count("\n") == 1


def test_stages_that_change_the_space_start_after_the_change(folder):
    path = made.write(folder / "stages.pt", "digits", "preact_resnet", depth=14)
    arguments = (str(path), "--points", "12")
    assert command("ot-gap", *arguments, "--out", str(folder / "all")).code == 0
    found = json.loads((folder / "all" / "result.json").read_text())["checkpoints"]
    assert [one["stage"] for one in found] == [0, 1, 2]
    assert [one["shape"] for one in found] == [[16, 8, 8], [32, 4, 4], [64, 2, 2]]
    assert [one["blocks"] for one in found] == [2, 1, 1]  # the first block of the others changes the space
    assert [one["image_asymmetry"] is not None for one in found] == [True, True, True]  # 64 inputs, more features
    assert command("ot-gap", *arguments, "--stage", "1", "--out", str(folder / "one")).code == 0
    (alone,) = json.loads((folder / "one" / "result.json").read_text())["checkpoints"]
    volatile = {"seconds"}
    assert {k: v for k, v in alone.items() if k not in volatile} == {
        k: v for k, v in found[1].items() if k not in volatile
    }


def test_one_stage_can_be_asked_for(folder):
    path = made.write(folder / "asked.pt", "digits", "preact_resnet", depth=14)
    for stage, expected in ((None, (0, 1, 2)), (1, (1,))):
        config = Config(checkpoints=[File(path="", sha256="")], points=10, stage=stage)
        assert stages.open_case(str(path), config).stages == expected


def test_the_map_of_a_stage_takes_its_first_states_to_its_last(folder):
    path = made.write(folder / "map.pt", "digits", "preact_resnet", depth=14)
    case = stages.open_case(str(path), Config(checkpoints=[File(path="", sha256="")], points=10))
    found, _ = stages.transported(case, 2.0, "cpu")
    network = case.network  # in float64 now
    for stage in found:
        with torch.no_grad():
            x = stages.entry(network, stage.number)(case.inputs.double())
            t = network.segment(stage.number).transport(x)
            states = [x]
            for block in stages.blocks(network, stage.number):
                states.append(block(states[-1]))
        assert_close(x.flatten(1), torch.from_numpy(stage.x))
        assert_close(t.flatten(1), torch.from_numpy(stage.t))
        energy = measure([states])
        assert_close(stage.energies["action"], float(energy.action))
        assert_close(stage.energies["length"], float(energy.length))
        assert_close(stage.steps.mean(0).sum(), float(energy.length))


def test_points_are_drawn_without_repetition_and_follow_the_seed(folder, checkpoints):
    def drawn(**options):
        config = Config(checkpoints=[File(path="", sha256="")], **options)
        return stages.open_case(str(checkpoints["gradient"]), config).inputs

    assert len(drawn()) == 200  # all there are
    assert len(drawn().unique(dim=0)) == 200
    assert len(drawn(split="train")) == 720  # 10 % of 800 are for validation
    assert_close(drawn(points=50), drawn(points=50))
    assert not torch.equal(drawn(points=50), drawn(points=50, seed=1))


def test_names_tell_checkpoints_apart():
    assert labels(["runs/a/best.pt"]) == ["a/best"]
    assert labels(["runs/a/best.pt", "runs/b/best.pt"]) == ["a/best", "b/best"]
    assert labels(["x/a/best.pt", "y/a/best.pt"]) == ["x/a/best", "y/a/best"]
    files = [File(path=f"runs/{name}/best.pt", sha256="") for name in "ab"]
    assert folder_stem(Config(checkpoints=files[:1])) == "ot-gap-a-best"
    assert folder_stem(Config(checkpoints=files)) == "ot-gap-a-best-and-1-more"


def test_it_states_nothing():
    assert "ot_gap" not in experiments.names()


def test_a_checkpoint_that_is_named_twice_ends_in_one_line(checkpoints, folder):
    path = str(checkpoints["shear"])
    ended = command("ot-gap", path, path, "--out", str(folder / "twice"))
    assert (ended.code, ended.out) == (2, "")
    assert ended.err.count("\n") == 1
    assert f"{path} is named twice: leave one out" in ended.err
    assert "sha256" not in ended.err
    assert not (folder / "twice").exists()


def test_progress_counts_the_parts_of_a_measurement(checkpoints):
    case = stages.open_case(str(checkpoints["shear"]), Config(checkpoints=[File(path="", sha256="")], points=20))
    (stage,), _ = stages.transported(case, 2.0, "cpu")
    *parts, last = measure_stage(case, stage, Config(checkpoints=[File(path="", sha256="")], points=20))
    assert parts == [None] * (PARTS - 1)
    assert last.numbers["certified"] is True


def test_progress_of_the_exact_solves_is_passed_on(checkpoints, monkeypatch, capsys):
    monkeypatch.setattr("regimes.transport.showing._MINUTE", 0.0)
    config = Config(checkpoints=[File(path="", sha256="")], points=20)
    case = stages.open_case(str(checkpoints["shear"]), config)
    (stage,), _ = stages.transported(case, 2.0, "cpu")
    measured = measure_stage(case, stage, config)
    next(measured)
    assert "exact transport of 20 points" in capsys.readouterr().err
    list(measured)
    assert "exact transport of 20 points" in capsys.readouterr().err  # of the altered maps
