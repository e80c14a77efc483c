"""Files that change together are all new, or after a crash all old."""

import pytest

from regimes.errors import UserError
from regimes.lab.files import write_whole
from regimes.lab.journal import LIST, all_or_none, put_back


@pytest.fixture
def files(tmp_path):
    found = [tmp_path / name / "last.pt" for name in ("a", "b", "c")]
    for file in found:
        file.parent.mkdir()
    for file in found[:2]:
        write_whole(file, "old")
    return found


def contents(files):
    return [file.read_text() if file.exists() else None for file in files]


def test_after_its_end_all_are_new(tmp_path, files):
    with all_or_none(tmp_path / ".journal", files):
        for file in files:
            write_whole(file, "new")
    put_back(tmp_path / ".journal")
    assert contents(files) == ["new"] * 3
    assert not (tmp_path / ".journal").exists()


@pytest.mark.parametrize("written", [0, 1, 2, 3])
def test_cut_short_all_are_what_they_were(tmp_path, files, written):
    journal = all_or_none(tmp_path / ".journal", files)
    journal.__enter__()
    for file in files[:written]:
        write_whole(file, "new")
    assert not journal.__exit__(KeyboardInterrupt, KeyboardInterrupt(), None)
    put_back(tmp_path / ".journal")
    put_back(tmp_path / ".journal")
    assert contents(files) == ["old", "old", None]
    assert not (tmp_path / ".journal").exists()


def test_a_journal_that_is_not_finished_counts_for_nothing(tmp_path, files):
    (tmp_path / ".journal").mkdir()
    write_whole(tmp_path / ".journal" / "0", "half")
    put_back(tmp_path / ".journal")
    assert contents(files) == ["old", "old", None]


def test_a_damaged_journal_is_named(tmp_path):
    (tmp_path / ".journal").mkdir()
    write_whole(tmp_path / ".journal" / LIST, "{")
    with pytest.raises(UserError, match=r"files\.json is damaged"):
        put_back(tmp_path / ".journal")


@pytest.mark.parametrize("links", [True, False], ids=["links", "no links"])
def test_what_is_put_back_leaves_no_second_name_behind(tmp_path, files, links, monkeypatch):
    if not links:
        monkeypatch.setattr("os.link", lambda *names: (_ for _ in ()).throw(OSError("no links")))
    journal = all_or_none(tmp_path / ".journal", files)
    journal.__enter__()
    write_whole(files[0], "new")
    assert not journal.__exit__(KeyboardInterrupt, KeyboardInterrupt(), None)
    put_back(tmp_path / ".journal")
    assert contents(files) == ["old", "old", None]
    assert {file.name for folder in files for file in folder.parent.iterdir()} == {"last.pt"}
