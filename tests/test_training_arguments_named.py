"""What `regimes.fit` and `regimes.load` say names their arguments, and no options of a command."""

import re
import shutil

import pytest
import torch
from torch import nn

import regimes
from regimes.errors import UserError, arguments_named
from regimes.training import results

OPTIONS = re.compile(r"(?<!\S)--\w")


def fit(path, **changes):
    torch.manual_seed(0)
    x = torch.randn(20, 2)
    model = nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 2))
    return regimes.fit(model, (x, torch.arange(20) % 2), **{"out": path, "epochs": 2, **changes})


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    path = tmp_path_factory.mktemp("finished") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(results, "_figure", lambda folder, rows: {})
        fit(path)
    return path


def cut(path):
    (path / "last.pt").write_bytes((path / "last.pt").read_bytes()[:99])


def altered(path):
    held = torch.load(path / "last.pt")
    torch.save(held | {"state": held["state"] | {"step": 10**6}}, path / "last.pt")


def of_other_weights(path):
    held = torch.load(path / "last.pt")
    torch.save(held | {"run": "another"}, path / "last.pt")


@pytest.mark.parametrize(
    ("changes", "prepare", "text"),
    [
        ({"lr": 0.1}, None, "out= for another folder, or fresh=True"),
        ({"epochs": 1}, None, "more than epochs=1; pass out= for another folder, or fresh=True"),
        ({}, cut, "truncated or damaged"),
        ({}, altered, "restore it, or pass fresh=True"),
        ({}, of_other_weights, "pass out= for another folder, or fresh=True"),
    ],
)
def test_fit_names_its_arguments(finished, tmp_path, changes, prepare, text):
    path = tmp_path / "run"
    shutil.copytree(finished, path)
    if prepare is not None:
        prepare(path)
    with pytest.raises(UserError, match=text) as caught:
        fit(path, **changes)
    assert not OPTIONS.search(str(caught.value))


def test_fit_names_its_argument_for_a_folder_that_is_none(tmp_path):
    (tmp_path / "file").write_text("")
    (tmp_path / "others").mkdir()
    (tmp_path / "others" / "thesis.tex").write_text("")
    for path, kind in ((tmp_path / "file", UserError), (tmp_path / "others", UserError), ("/proc/run", OSError)):
        with pytest.raises(kind, match=r"with out=$"):
            fit(path)


def test_load_gives_no_advice_of_a_command(finished, tmp_path):
    path = tmp_path / "run"
    shutil.copytree(finished, path)
    settings = (path / "config.yaml").read_text()
    (path / "config.yaml").write_text(settings.replace("epochs: 2", "epochs: 2\nmore: 1"))
    with pytest.raises(UserError, match=r"put the run's own file back$"):
        regimes.load(path, model=nn.Linear(2, 2))


def test_options_become_arguments_and_dashes_in_other_words_stay():
    said = "pass --across-commits (in Python across_commits=True), --max-steps 3 or --out; a--out --help-me"
    with pytest.raises(UserError) as caught, arguments_named():
        raise UserError(said)
    assert str(caught.value) == "pass across_commits=True, max_steps=3 or out=; a--out help_me="
