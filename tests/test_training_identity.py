"""A checkpoint that does not belong to its folder is refused: settings, samples and the run itself have to agree."""

import shutil

import pytest
import torch
from short_training import short, train

from regimes.data.classification import Labelled
from regimes.data.digest import digest
from regimes.lab.provenance import run_identity
from regimes.training import results
from regimes.training.checkpoint import load_checkpoint, save_checkpoint
from regimes.training.run import TrainingRun, train_one


@pytest.fixture(autouse=True)
def without_figure(monkeypatch):
    monkeypatch.setattr(results, "_figure", lambda folder, rows: {})


@pytest.fixture
def finished(tmp_path):
    train(tmp_path / "run", epochs=1)
    return tmp_path / "run"


@pytest.mark.parametrize(
    ("changes", "reason"), [({"lr": 0.01}, "lr is 0.01 in it, 0.05 here"), ({"seed": 1}, "seed is 1 in it, 0 here")]
)
def test_a_checkpoint_of_other_settings_is_refused(tmp_path, finished, changes, reason):
    train(tmp_path / "other", epochs=1, **changes)
    shutil.copy(tmp_path / "other" / "last.pt", finished / "last.pt")
    with pytest.raises(ValueError, match=f"last.pt is of another run: {reason}.*--fresh"):
        train(finished, epochs=1)


def test_a_checkpoint_of_the_same_settings_but_another_run_is_refused(tmp_path, finished, monkeypatch):
    monkeypatch.setattr("regimes.lab.provenance.command_line", lambda arguments: "another command")
    train(tmp_path / "other", epochs=1)
    shutil.copy(tmp_path / "other" / "last.pt", finished / "last.pt")
    with pytest.raises(ValueError, match=r"last.pt is of another run of the same settings"):
        train(finished, epochs=1)


def test_a_best_checkpoint_of_another_run_is_refused(tmp_path, monkeypatch):
    train(tmp_path / "other", epochs=1, lr=0.01)
    real = TrainingRun.train

    def then_replaced(run):
        real(run)
        shutil.copy(tmp_path / "other" / "best.pt", run.path / "best.pt")
        run.state.best = {"epoch": 0}  # not the last one, so that it is read

    monkeypatch.setattr(TrainingRun, "train", then_replaced)
    with pytest.raises(ValueError, match=r"best\.pt is of another run: lr is 0.01 in it"):
        train(tmp_path / "run", epochs=1)


def test_a_checkpoint_of_other_samples_is_refused(finished):
    held = load_checkpoint(finished / "last.pt")
    save_checkpoint(finished / "last.pt", held._replace(data="0" * 16))
    with pytest.raises(ValueError, match=r"last.pt was trained on other samples than those of this run"):
        train(finished, epochs=1)


def test_a_checkpoint_of_the_format_before_is_read_but_not_gone_on_with(finished):
    held = load_checkpoint(finished / "last.pt")
    save_checkpoint(finished / "last.pt", held._replace(version=1))
    assert load_checkpoint(finished / "last.pt").version == 1
    with pytest.raises(ValueError, match="of an older format, 1, which can be read but not gone on with: pass --fresh"):
        train(finished, epochs=1)


def test_the_run_s_own_checkpoint_goes_on_to_another_length(finished):
    assert train_one(short(epochs=2), finished).result["last"]["epoch"] == 2


def test_a_folder_that_was_moved_is_still_the_run(tmp_path, finished):
    finished.rename(tmp_path / "moved")
    assert train_one(short(epochs=2), tmp_path / "moved").result["last"]["epoch"] == 2


def test_the_digest_tells_samples_labels_and_their_parts():
    x, labels = torch.arange(6.0).view(3, 2), torch.tensor([0, 1, 0])
    part = Labelled(x, labels)
    same = Labelled(x.clone(), labels.clone())
    assert digest((part, None)) == digest((same, None))
    others = [
        (Labelled(x + 1, labels), None),
        (Labelled(x, 1 - labels), None),
        (Labelled(x.view(3, 1, 2), labels), None),
        (Labelled(x.double(), labels), None),
        (None, part),
        (part, part),
    ]
    assert len({digest(parts) for parts in [(part, None), *others]}) == 7


def test_the_identity_of_a_run_is_that_of_its_first_launch(tmp_path):
    from regimes.lab.runs import RunFolder

    with RunFolder.open(tmp_path / "a", "train", short()) as folder:
        folder.begin()
        first = run_identity(folder.name, folder.launches)
        folder.write("rows", "some")
    with RunFolder.open(tmp_path / "a", "train", short()) as folder:
        folder.begin()
        assert run_identity(folder.name, folder.launches) == first
