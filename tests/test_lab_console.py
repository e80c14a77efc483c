import re
import sys

import pytest

from regimes.lab import console
from regimes.lab.console import duration, print_entry, print_table, track


class Clock:
    """A clock that moves by half a minute at every look."""

    def __init__(self):
        self.seconds = 0.0

    def __call__(self):
        self.seconds += 30.0
        return self.seconds


def test_items_pass_unchanged(capsys):
    assert list(track([1, 2, 3], 3, "toy")) == [1, 2, 3]
    assert capsys.readouterr() == ("", "")


def test_without_a_terminal_there_is_a_line_a_minute(capsys, monkeypatch):
    monkeypatch.setattr(console.time, "monotonic", Clock())
    assert list(track(range(6), 6, "toy")) == list(range(6))
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == [
        "toy: 2 of 6, 60 s so far, 2 min to go",
        "toy: 4 of 6, 2 min so far, 60 s to go",
    ]


def test_only_rank_0_speaks(capsys, monkeypatch):
    monkeypatch.setattr(console.time, "monotonic", Clock())
    monkeypatch.setenv("RANK", "1")
    assert list(track(range(6), 6, "toy")) == list(range(6))
    assert capsys.readouterr() == ("", "")


def test_on_a_terminal_there_is_a_bar(capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    assert list(track([1, 2], 2, "toy")) == [1, 2]
    assert capsys.readouterr().out == ""


def test_an_error_in_the_loop_is_passed_on(monkeypatch):
    def broken():
        yield 1
        raise KeyboardInterrupt

    for terminal in (True, False):
        monkeypatch.setattr(sys.stderr, "isatty", lambda terminal=terminal: terminal, raising=False)
        with pytest.raises(KeyboardInterrupt):
            list(track(broken(), 2, "toy"))


def test_a_table_in_a_file_is_never_folded(capsys):
    long = "word " * 50
    print_table([{"name": "a", "x": 1 / 3, "text": long}, {"name": "[b]", "x": 2.0}])
    lines = capsys.readouterr().out.splitlines()
    (row,) = [line for line in lines if "0.3333" in line]
    assert row.count("word") == 50
    assert any("[b]" in line for line in lines)  # brackets are no markup
    assert any(line.split() == ["name", "x", "text"] for line in lines)


def test_an_entry_is_folded_on_a_terminal_only(capsys, monkeypatch):
    print_entry("name", ["word " * 60])
    assert [line.strip() for line in capsys.readouterr().out.splitlines()] == ["name", ("word " * 60).strip(), ""]
    monkeypatch.setenv("COLUMNS", "50")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    print_entry("name", ["word " * 60])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) > 5
    assert max(map(len, lines)) <= 50


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.2, "0 s"), (89, "89 s"), (91, "2 min"), (3600, "60 min"), (7500, "2 h 05 min")]
)
def test_durations_are_written_for_people(seconds, text):
    assert duration(float(seconds)) == text


WIDE = [{"arm": "plain", **{f"number {k}": k / 3 for k in range(20)}, "verdict": "supported"}] * 2


def test_a_table_on_a_terminal_is_as_wide_as_that_and_tells_what_it_leaves_out(capsys, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "80")
    print_table(WIDE, keep=("verdict",), wide="runs/a/table.md")
    table, _, rest = re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out).partition("Not shown")
    assert max(map(len, table.splitlines())) <= 80
    rows = [line for line in table.splitlines() if "plain" in line]
    assert len(rows) == 2  # nothing is folded into a second line
    assert all("supported" in row for row in rows)
    assert ("number 0" in table, "number 19" in table) == (True, False)
    assert ("number 19" in rest, "runs/a/table.md" in rest) == (True, True)


def test_a_table_that_has_room_is_whole_on_a_terminal(capsys, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "80")
    print_table([{"a": 1, "b": "two words"}], wide="x")
    text = capsys.readouterr().out
    assert ("two words" in text, "Not shown" in text) == (True, False)
