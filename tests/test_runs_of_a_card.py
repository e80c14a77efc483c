"""Runs that a card has measured are joined, judged, audited, loaded and gone through where there is none."""

import json
import shutil
from types import SimpleNamespace
from typing import Literal

import numpy as np
import pytest
import torch
import toy_experiment as toy
import yaml
from command import command
from published_rows import published_rows
from short_training import train

import regimes
from regimes import audit
from regimes.errors import UserError
from regimes.experiments import load
from regimes.jobs.ot_gap import Config as GapConfig
from regimes.jobs.ot_gap import start as ot_gap
from regimes.lab import provenance
from regimes.lab.config import load as settings
from regimes.lab.grid import grid_points
from regimes.lab.log import PointLog, Record
from regimes.lab.merging import Part, merge
from regimes.lab.runs import RunFolder
from regimes.lab.stamps import stamp
from regimes.lab.verification import conclude, verify
from regimes.training import results
from regimes.training.checkpoint import load_checkpoint, save_checkpoint

CARD = "cuda: a card elsewhere"


class Config(toy.Config):
    device: Literal["cpu", "cuda"] = "cuda"


TOY = SimpleNamespace(**{name: value for name, value in vars(toy).items() if name[:1] != "_"} | {"Config": Config})


@pytest.fixture(autouse=True)
def no_card(monkeypatch):
    """Also on a machine that has one."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


@pytest.fixture
def on_a_card():
    """Within, a machine with a card, as far as a run's folder looks at it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(provenance, "device_name", lambda device: CARD if device == "cuda" else "cpu: there")
        patch.setattr(provenance, "git_state", lambda: ("a" * 40, False))
        yield patch


@pytest.fixture
def parts(tmp_path, on_a_card):
    """The toy run in two parts, measured on a card; now there is none."""
    for number in (1, 2):
        verify(TOY, "toy", Config(), tmp_path / f"part{number}", part=Part(number, 2))
    on_a_card.undo()
    return [tmp_path / "part1", tmp_path / "part2"]


def test_rows_of_a_card_are_joined_and_judged_where_there_is_none(parts, tmp_path):
    joined = tmp_path / "joined"
    assert merge(TOY, "toy", parts, joined, Config()) == (12, 12)
    with RunFolder.existing(joined) as folder:
        conclude(TOY, folder)
    found = json.loads((joined / "result.json").read_text())
    assert found["device"] == CARD  # which has measured, not the processor that has joined
    assert found["config"]["device"] == "cuda"


def test_a_join_is_no_measurement(parts, tmp_path, monkeypatch):
    joined = tmp_path / "joined"
    monkeypatch.setattr(provenance, "git_state", lambda: ("f" * 40, True))
    merge(TOY, "toy", parts, joined, Config())
    with RunFolder.existing(joined) as folder:
        record, launches = folder.record(), folder.launches
    assert [launch.get("joined") for launch in launches] == [None, None, True]
    assert "device" not in launches[-1]
    assert record["commit"] == launches[0]["commit"] == "a" * 40
    assert "commits" not in record
    assert audit.audit([joined])[0].passed  # though the code that has joined is not committed


def test_parts_of_two_devices_are_both_named(parts, tmp_path):
    file = parts[1] / "run.json"
    file.write_text(file.read_text().replace(CARD, "cuda: another card"))
    merge(TOY, "toy", parts, tmp_path / "joined", Config())
    with RunFolder.existing(tmp_path / "joined") as folder:
        assert folder.record()["devices"] == [CARD, "cuda: another card"]


def test_a_whole_run_of_a_card_is_concluded_again_and_a_missing_point_needs_one(parts, tmp_path):
    joined = tmp_path / "joined"
    merge(TOY, "toy", parts[:1], joined, Config())
    with pytest.raises(UserError, match="device 'cuda' needs a CUDA graphics card"):
        verify(TOY, "toy", Config(), joined, across_commits=True)
    with pytest.raises(UserError, match="device 'cuda' needs a CUDA graphics card"):
        verify(TOY, "toy", Config(), parts[0], fresh=True)
    assert (parts[0] / "points.jsonl").exists()  # not moved aside for nothing
    with pytest.raises(UserError, match="device 'cuda' needs a CUDA graphics card"):
        verify(TOY, "toy", Config(), tmp_path / "new")
    assert not (tmp_path / "new").exists()
    merge(TOY, "toy", parts, joined, Config())
    before = (joined / "points.jsonl").read_bytes()
    assert verify(TOY, "toy", Config(), joined).judgement.verdict
    assert (joined / "points.jsonl").read_bytes() == before


def made_up(name, path, config, rows):
    """A run folder of a statement with such rows, as a card has left it."""
    experiment = load(name)
    with RunFolder.open(path, name, config) as folder:
        log = PointLog(folder.path)
        mark = stamp(experiment, config, commit=folder.commit)
        axes = experiment.GRID
        for point in grid_points(experiment, config):
            (row,) = [row for row in rows if all(row[axis] == point[axis] for axis in axes)]
            log.append([Record(point, [{k: v for k, v in row.items() if k not in axes}], 1.0, mark)])
        log.close()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["cifar10_low_data", "cifar100_resnext50"])
def test_tables_of_a_card_are_joined_judged_and_audited_from_the_command_line(tmp_path, on_a_card, name):
    experiment = load(name)
    sizes = sorted(experiment.PUBLISHED["vanilla"])[:1]
    rows = published_rows(experiment.PUBLISHED, first=0, sizes=sizes).to_dict("records")
    own = ["device=cuda", "cuda_graphs=true", "bf16=true", f"train_size={sizes}"]
    for number, arm in enumerate(["vanilla", "lap_divided"], 1):
        config = settings(experiment.Config, f"configs/{name}.yaml", [*own, "seeds=3", f"arm=[{arm}]"])
        made_up(name, tmp_path / f"{number}", config, rows)
    on_a_card.undo()
    both, joined = [str(tmp_path / "1"), str(tmp_path / "2")], str(tmp_path / "joined")
    ended = command("merge", *both, "--out", joined, "--set", "arm=[vanilla,lap_divided]")
    assert ended.code == 0, ended.err
    assert (tmp_path / "joined" / "figure.png").exists()
    assert json.loads((tmp_path / "joined" / "result.json").read_text())["device"] == CARD
    for words in (["judge", joined], ["verify", name, "--config", f"{joined}/config.yaml", "--out", joined]):
        ended = command(*words)
        assert ended.code == 0, ended.err
    assert "CUDA" not in command("audit", joined).err


def of_a_card(path):
    """Turn a run of `train` into one that a card has left, its tensors written as those of a card."""
    for file in ("config.yaml", "result.json"):
        content = yaml.safe_load((path / file).read_text())
        (content if file == "config.yaml" else content["config"])["device"] = "cuda"
        (path / file).write_text(json.dumps(content))  # JSON is YAML
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.serialization, "location_tag", lambda storage: "cuda:0")
        for file in ("best.pt", "last.pt"):
            held = load_checkpoint(path / file)
            rng = {**held.rng, "cuda": torch.zeros(16, dtype=torch.uint8)}
            save_checkpoint(path / file, held._replace(config={**held.config, "device": "cuda"}, rng=rng))


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    path = tmp_path_factory.mktemp("card") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(results, "_figure", lambda folder, rows: {})
        train(path, epochs=1)
        shutil.copytree(path, path.with_name("of-a-card"))
        of_a_card(path.with_name("of-a-card"))
    return path, path.with_name("of-a-card")


def test_the_checkpoint_is_one_of_a_card(trained):
    with pytest.raises(RuntimeError, match="CUDA"):
        torch.load(trained[1] / "best.pt", weights_only=True)


@pytest.mark.parametrize("weights", ["best", "last"])
def test_a_run_of_a_card_is_loaded_on_a_cpu(trained, weights):
    here, there = (regimes.load(path, weights=weights) for path in trained)
    x = here.data.test.x
    assert torch.equal(here.model(x), there.model(x))
    assert there.config["device"] == "cuda"


@pytest.mark.slow
def test_the_gap_of_a_net_of_a_card_is_measured_on_a_cpu(trained, tmp_path):
    gaps = []
    for number, path in enumerate(trained):
        config = GapConfig(checkpoints=regimes.jobs.ot_gap.given_files([path / "best.pt"]), points=30)
        out = ot_gap(config, tmp_path / f"{number}")
        gaps.append(json.loads(str(np.load(out / "measurement.npz")["numbers"])))
    for one, other in zip(*gaps, strict=True):
        for name in ("action", "length", "straightness", "mean_displacement"):
            assert one[name] == other[name] > 0
