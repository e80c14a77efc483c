"""Streams that are closed, full, end early or have few characters: no command ends in a traceback or loses results."""

import contextlib
import errno
import io
import os
import subprocess
import sys
from pathlib import Path
from unittest import mock

import hand_made_checkpoint as made
import pytest
import toy_experiment as toy
from command import command
from launch import environment

from regimes import experiments
from regimes.cli import main
from regimes.cli.output import PLAIN, Output, safe_streams

ROOT = Path(__file__).parent.parent
GAP = ("ot-gap", "a.pt", "--points", "20", "--out", "gap")
TRAIN = ("train", "--dataset", "circles", "--arch", "dense", "--max-steps", "1", "--out", "net")
COMMANDS = {
    "help": ("--help",),
    "help of a command": ("ot-gap", "--help"),
    "version": ("--version",),
    "list": ("list",),
    "show": ("show", "toy"),
    "verify": ("verify", "toy", "--out", "new"),
    "print-config": ("verify", "toy", "--print-config"),
    "judge": ("judge", "run"),
    "merge": ("merge", "run", "--out", "new"),
    "audit": ("audit", "run"),
    "report": ("report",),
    "lazy-vs-meanfield": ("lazy-vs-meanfield", "--out", "main"),
    "a mistake": ("verify", "toy", "--set", "x=a"),
}
LONG = {"verify", "judge", "merge", "audit", "report", "train", "ot-gap"}  # they draw, or call git
COMMANDS |= {"train": TRAIN, "ot-gap": GAP}
ALL = [pytest.param(name, marks=[pytest.mark.slow] * (name in LONG)) for name in COMMANDS]


@pytest.fixture(autouse=True)
def toy_statement(monkeypatch, tmp_path):
    from regimes.jobs import lazy_vs_meanfield

    monkeypatch.setattr(experiments, "load", lambda name: toy)
    monkeypatch.setattr(experiments, "names", lambda: ["toy"])
    monkeypatch.setattr(lazy_vs_meanfield, "run", lambda config, folder: None)
    monkeypatch.chdir(tmp_path)


def prepared(name):
    if name in ("judge", "merge", "audit", "report"):
        assert command("verify", "toy", "--out", "run", "--set", "x=[1,2]").code == 0
    if name == "ot-gap":
        made.write(Path("a.pt"), "circles", "dense", blocks=1)
    return COMMANDS[name]


def run(arguments, out, err=None):
    """The exit code of a command that prints on these streams."""
    names = {"argv": ["cli.py", *arguments], "stdout": out, "stderr": err or io.StringIO()}
    with contextlib.ExitStack() as stack:
        for name, value in names.items():
            stack.enter_context(mock.patch.object(sys, name, value))
        stack.enter_context(mock.patch.dict(os.environ))
        with pytest.raises(SystemExit) as end:
            main()
    return end.value.code if isinstance(end.value.code, int) else 0


def files():
    return {str(file) for file in Path().rglob("*") if file.is_file() and "aside" not in str(file)}


class Failing(io.StringIO):
    """A stream that takes one piece of text and no more."""

    def __init__(self, number):
        super().__init__()
        self.number = number

    def write(self, text):
        if self.getvalue():
            raise OSError(self.number, os.strerror(self.number))
        return super().write(text)


@pytest.mark.parametrize("name", ALL)
def test_a_reader_that_has_seen_enough_ends_no_command_and_costs_no_file(name, tmp_path):
    arguments = prepared(name)
    whole, err = run(arguments, io.StringIO()), io.StringIO()
    kept = files()
    for folder in ("new", "main", "net", "gap"):
        if Path(folder).exists():
            Path(folder).rename(f"aside-{folder}")
    assert run(arguments, Failing(errno.EPIPE), err) == whole
    assert len(err.getvalue().splitlines()) <= 1
    assert files() == kept
    assert run(["show", "toy"], Failing(errno.EPIPE), Failing(errno.EPIPE)) == 0  # `2>&1 | head -1`


@pytest.mark.parametrize("name", ALL)
def test_closed_streams_change_no_exit_code(name):
    arguments = prepared(name)
    assert run(arguments, None, io.StringIO()) == run(arguments, io.StringIO())


@pytest.mark.parametrize("name", ["show", "verify"])
def test_output_that_is_lost_on_a_full_disk_is_told(name):
    err = io.StringIO()
    assert run(prepared(name), Failing(errno.ENOSPC), err) == 2
    assert "output is lost: No space left" in err.getvalue()
    assert name != "verify" or Path("new/result.json").exists()


@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
@pytest.mark.parametrize("name", ALL)
def test_few_characters_are_enough(name, encoding):
    arguments = prepared(name)
    streams = [io.TextIOWrapper(io.BytesIO(), encoding=encoding) for _ in range(2)]
    plain = io.StringIO()
    assert run(arguments, *streams) == run(arguments, plain)
    for stream in streams:
        stream.flush()
        stream.buffer.getvalue().decode(encoding)
    assert streams[0].buffer.getvalue() or not plain.getvalue()
    for file in files():
        if Path(file).suffix in (".yaml", ".json", ".csv", ".md"):
            Path(file).read_text(encoding="utf-8")


def test_what_an_encoding_lacks_is_written_in_what_it_has():
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    print("‖x − y‖² ≤ λ·α ± é 東 \udce4", file=Output(stream), flush=True)
    assert stream.buffer.getvalue() == b"||x - y||^2 <= lambda*alpha +- e ? ?\n"
    assert all(text.isascii() for text in PLAIN.values())


def test_streams_are_put_back():
    before = sys.stdout, sys.stderr
    with safe_streams() as (out, err):
        assert (sys.stdout, sys.stderr) == (out, err)
    assert (sys.stdout, sys.stderr) == before


def shell(line, **more):
    """What a shell says of a line in which $P is the program, and its exit code."""
    kept = environment(**more) | {"P": f"{sys.executable} {ROOT / 'cli.py'}"}
    done = subprocess.run(["bash", "-c", line], env=kept, capture_output=True, check=False)
    return done.returncode, done.stdout, done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("line", "code", "errors"),
    [
        ("$P list >&-", 0, 0),
        ("$P list 2>&-", 0, 0),
        ("$P list >&- 2>&-", 0, 0),
        ("$P list <&- >&- 2>&-", 0, 0),
        ("$P show nothing >&- 2>&-", 2, 0),
        ("set -o pipefail; $P show lazy_rate | head -1", 0, 0),
        ("set -o pipefail; $P show lazy_rate 2>&1 | head -1", 0, 0),
        ("set -o pipefail; $P --help | true", 0, 0),
        ("$P list > /dev/full", 2, 1),
        ("$P list > /dev/full 2> /dev/full", 2, 0),
        ("$P verify lazy_rate --out $'\\xe4'", 2, 1),
        ("LC_ALL=C PYTHONUTF8=0 PYTHONCOERCECLOCALE=0 $P verify lazy_rate --out ä", 2, 1),
        ("LC_ALL=C PYTHONUTF8=0 PYTHONCOERCECLOCALE=0 REGIMES_DATA_DIR=ä $P list", 2, 1),
    ],
)
def test_streams_in_a_shell(line, code, errors):
    found, _, err = shell(line)
    assert (found, len(err.splitlines())) == (code, errors), err
    assert b"Traceback" not in err


@pytest.mark.slow
@pytest.mark.parametrize("variables", [{"PYTHONIOENCODING": "ascii"}, {"LC_ALL": "C", "PYTHONUTF8": "0"}])
def test_the_characters_of_a_shell(variables):
    for words in ("show lazy_rate", "ot-gap --help", "list"):
        code, out, err = shell(f"$P {words}", PYTHONCOERCECLOCALE="0", **variables)
        assert (code, err) == (0, b"")
        assert out.isascii()
