"""Mistakes of users: each ends as one line on stderr that says what to do, with exit code 2, and nothing is lost."""

import gzip
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import hand_made_checkpoint as made
import pytest
import torch
import toy_experiment as toy
from command import Ended, command
from launch import environment

from regimes import experiments
from regimes.data import files
from regimes.jobs import lazy_vs_meanfield
from regimes.lab.config import dump
from regimes.lab.runs import RunFolder
from regimes.lab.yaml_text import to_yaml
from regimes.training.config import TrainConfig

ROOT = Path(__file__).parent.parent
VERIFY, MAIN = ("verify", "toy"), ("lazy-vs-meanfield", "--out", "run")
TRAIN = ("train", "--out", "run")
GAP = ("ot-gap", "a.pt", "--out", "run")


@pytest.fixture(autouse=True)
def toy_statement(monkeypatch, tmp_path):
    """The toy is the only statement; the working folder is empty; no MNIST, no network, no CUDA."""
    real = experiments.load
    monkeypatch.setattr(experiments, "names", lambda: ["toy"])
    monkeypatch.setattr(experiments, "load", lambda name: toy if name == "toy" else real(name))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    monkeypatch.setenv("REGIMES_DATA_DIR", str(tmp_path / "empty"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "empty"))
    for proxy in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(proxy, "http://127.0.0.1:9")  # nobody listens there
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


class Case(NamedTuple):
    """A command, the parts that its line has to hold, and what to prepare before."""

    arguments: tuple[str, ...]
    parts: tuple[str, ...]
    prepare: Callable[[Path], object] = lambda folder: None


def content(**files: str) -> Callable[[Path], None]:
    """Write files into the working folder; a double underscore in a name stands for a dot."""

    def write(folder: Path) -> None:
        for name, text in files.items():
            (folder / name.replace("__", ".")).write_text(text)

    return write


def finished(**changes: str) -> Callable[[Path], None]:
    """A finished run in `run`, then some of its files changed (None: removed)."""

    def make(folder: Path) -> None:
        assert command("verify", "toy", "--out", "run").code == 0
        for name, text in changes.items():
            file = folder / "run" / name.replace("__", ".")
            file.unlink() if text is None else file.write_text(text)

    return make


def foreign(folder: Path) -> None:
    (folder / "run").mkdir()
    (folder / "run" / "thesis.tex").write_text("ten years of work")


def cut_log(folder: Path) -> None:
    finished()(folder)
    log = folder / "run" / "points.jsonl"
    log.write_text(log.read_text().replace('"seconds"', '"seco', 1))


def other_experiment(folder: Path) -> None:
    finished()(folder)
    run = folder / "run" / "run.json"
    run.write_text(json.dumps({**json.loads(run.read_text()), "name": "kernel_drift"}))


def main_job(measurement: bytes | None) -> Callable[[Path], None]:
    """A run of the main job with or without its measurement."""

    def make(folder: Path) -> None:
        with RunFolder.open(folder / "run", "lazy-vs-meanfield", lazy_vs_meanfield.Config()) as run:
            if measurement is not None:
                run.write("measurement.npz", measurement)

    return make


def training_of(name: str) -> Callable[[Path], None]:
    """The folder of a training run, by `train` or `fit`, that has ended."""

    def make(folder: Path) -> None:
        with RunFolder.open(folder / "run", name, TrainConfig(dataset="digits")) as run:
            run.write("result.json", "{}")

    return make


training = training_of("train")


def trainings(folder: Path) -> None:
    """The same of several seeds."""
    training(folder)
    for seed in ("seed0", "seed1"):
        (folder / "run" / seed).mkdir()
        (folder / "run" / seed / "best.pt").write_bytes(b"")


def half_trained(checkpoint: bytes | None) -> Callable[[Path], None]:
    """A training run whose last checkpoint is this one (None: its own)."""

    def make(folder: Path) -> None:
        assert command(*TRAIN, "--arch", "dense", "--max-steps", "1", "--set", "lr=1e-6").code == 0
        config = TrainConfig(dataset="digits")
        (folder / "run" / "config.yaml").write_text(to_yaml(dump(config)))
        if checkpoint is not None:
            (folder / "run" / "last.pt").write_bytes(checkpoint)

    return make


def mnist(change: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    """Four files with the names of MNIST's."""

    def write(folder: Path) -> None:
        for file in files.MNIST:
            (folder / "empty" / file.name).write_bytes(change(gzip.compress(b"\x00\x00\x08\x01\x00\x00\x00\x01\x05")))

    return write


def checkpoint(change: Callable[[bytes], bytes] = bytes, edit: made.Edit | None = None, **options: str) -> Callable:
    """The checkpoint a.pt of a dense net, by default on the circles, its bytes changed."""

    def prepare(folder: Path) -> None:
        file = made.write(folder / "a.pt", options.get("dataset", "circles"), "dense", edit, blocks=1)
        file.write_bytes(change(file.read_bytes()))

    return prepare


def diverged(model: torch.nn.Module) -> None:
    for weight in model.parameters():
        weight.fill_(float("nan"))


def head_of_infinity(model: torch.nn.Module) -> None:
    list(model.parameters())[-1][0] = float("inf")


class Trap:
    """What a checkpoint that runs code holds: reading it makes the file `sprung`."""

    def __reduce__(self) -> tuple:
        return (os.system, ("touch sprung",))


def stored(content: object) -> Callable[[Path], None]:
    """The file a.pt as torch.save writes it."""
    return lambda folder: torch.save(content, folder / "a.pt")


CASES = {
    # ot-gap
    "no checkpoint": Case(("ot-gap",), ("Missing argument", "CKPT", "--help")),
    "a missing checkpoint": Case(GAP, ("a.pt does not exist", "`train`")),
    "a folder for a checkpoint": Case(("ot-gap", "empty"), ("empty is a folder", "neither empty/best.pt")),
    "the folder of several seeds": Case(
        ("ot-gap", "run"), ("run is a folder", "run/seed0/best.pt, run/seed1/best.pt"), trainings
    ),
    "merge of a training run": Case(
        ("merge", "run", "--out", "all"), ("run holds a training run", "verify --part", "train --seeds"), training
    ),
    "merge of one run twice": Case(
        ("merge", "run", "run/../run/", "--out", "all"),
        ("run and run/../run are one folder", "leave one out"),
        finished(),
    ),
    "audit of one run twice": Case(("audit", "run", "./run"), ("run is named twice", "leave one out"), finished()),
    "an empty checkpoint": Case(GAP, ("a.pt is empty",), checkpoint(lambda data: b"")),
    "half a checkpoint": Case(GAP, ("a.pt", "truncated or damaged"), checkpoint(lambda data: data[: len(data) // 2])),
    "a text for a checkpoint": Case(GAP, ("a.pt", "no checkpoint"), checkpoint(lambda data: b"weights: none")),
    "weights alone": Case(GAP, ("a.pt", "weights of a model alone"), stored({"w": torch.zeros(2)})),
    "another program's checkpoint": Case(GAP, ("a.pt", "another program"), stored({"epoch": 3})),
    "a checkpoint that runs code": Case(GAP, ("a.pt", "could run code", "not read"), stored({"x": Trap()})),
    "one good checkpoint and one bad": Case(("ot-gap", "a.pt", "b.pt"), ("b.pt does not exist",), checkpoint()),
    "a checkpoint twice": Case((*GAP, "a.pt"), ("a.pt is named twice", "leave one out"), checkpoint()),
    "points 0": Case((*GAP, "--points", "0"), ("points", "greater than or equal to 3", "got 0"), checkpoint()),
    "more points than there are": Case((*GAP, "--points", "201"), ("200 samples", "--points 201"), checkpoint()),
    "an unknown split": Case((*GAP, "--split", "dev"), ("'train', 'validation' or 'test'", "'dev'"), checkpoint()),
    "a stage too far": Case((*GAP, "--stage", "1"), ("stage 0 only", "--stage 1"), checkpoint()),
    "a negative stage": Case((*GAP, "--stage=-1"), ("stage 0 only", "--stage -1"), checkpoint()),
    "p below 1": Case((*GAP, "--p", "0.5"), ("p: should be greater than or equal to 1; got 0.5",), checkpoint()),
    "p nan": Case((*GAP, "--p", "nan"), ("p: should be a finite number",), checkpoint()),
    "no seconds": Case((*GAP, "--seconds", "0"), ("seconds", "greater than 0"), checkpoint()),
    "a head that is infinite": Case(GAP, ("a.pt", "NaN or infinite"), checkpoint(edit=head_of_infinity)),
    "states that are NaN": Case(GAP, ("a.pt", "NaN or infinite", "diverged"), checkpoint(edit=diverged)),
    "no data for the checkpoint": Case(GAP, ("MNIST", "--data-dir"), checkpoint(dataset="mnist")),
    # the parser
    "unknown command": Case(("verfy", "toy"), ("No such command 'verfy'", "verify", "--help")),
    "unknown flag": Case(("lazy-vs-meanfield", "--alpa", "3"), ("No such option", "--alpa", "--alpha")),
    "no statement": Case(("verify",), ("Missing argument", "--help")),
    "too many arguments": Case(("verify", "toy", "toy"), ("unexpected extra argument", "--help")),
    "flag without value": Case(("verify", "toy", "--out"), ("--out", "--help")),
    "alpha is a word": Case((*MAIN, "--alpha", "large"), ("--alpha", "number", "'large'")),
    "width is a fraction": Case((*MAIN, "--width", "10.5"), ("--width", "integer", "'10.5'")),
    "workers is a word": Case((*VERIFY, "--workers=many"), ("--workers", "integer", "'many'")),
    "an option twice": Case((*VERIFY, "--out", "a", "--out=b"), ("--out may be given once", "came twice", "Leave out")),
    "an option three times": Case((*TRAIN, "--epochs=1", "--epochs=2", "--epochs=3"), ("--epochs", "came 3 times")),
    "two files of settings": Case(
        ("merge", "a", "--out", "b", "--config", "a", "--config", "b"), ("--config", "twice")
    ),
    # names
    "unknown statement": Case(("verify", "lazy_rat"), ("unknown statement 'lazy_rat'", "Known statements: toy")),
    "unknown data set": Case(
        (*MAIN, "--dataset", "cifar"), ("dataset", "'teacher', 'circle', 'digits' or 'mnist'", "'cifar'")
    ),
    "unknown device": Case((*MAIN, "--device", "tpu"), ("device", "'cpu' or 'cuda'", "'tpu'")),
    # numbers
    "alpha 0": Case((*MAIN, "--alpha", "0"), ("alpha", "between 0.0001", "(from --alpha 0.0)")),
    "alpha -1": Case((*MAIN, "--alpha", "-1"), ("alpha", "between 0.0001", "(from --alpha -1.0)")),
    "alpha nan": Case((*MAIN, "--alpha", "nan"), ("alpha", "finite", "nan")),
    "alpha inf": Case((*MAIN, "--alpha", "inf"), ("alpha", "finite", "inf")),
    "width 0": Case((*MAIN, "--width", "0"), ("width", "0")),
    "odd width cannot be doubled": Case((*MAIN, "--width", "51"), ("width", "multiple of 2", "51")),
    "seeds 0": Case((*MAIN, "--seeds", "0"), ("seeds", "greater than or equal to 1", "0")),
    "weights too small to measure": Case((*MAIN, "--set", "init_std=1e-300"), ("init_std", "greater than or equal to")),
    "weights too large to measure": Case((*MAIN, "--set", "init_std=1e300"), ("init_std", "less than or equal to")),
    "a list of data sets": Case((*MAIN, "--set", "dataset=[teacher]"), ("dataset", "'teacher'", "['teacher']")),
    "a list for alpha": Case((*MAIN, "--set", "alpha=[100]"), ("alpha", "number", "[100]")),
    "no seeds in a sweep": Case((*VERIFY, "--set", "seeds=0"), ("seeds", "at least 1; got 0")),
    "empty axis": Case((*VERIFY, "--set", "x=[]"), ("axis 'x'", "at least one value")),
    "the same point twice": Case((*VERIFY, "--set", "x=[1, 1]"), ("x=1.0", "twice")),
    "workers 0": Case((*VERIFY, "--workers", "0"), ("workers", "at least 1; got 0")),
    "endless epochs": Case(
        (*TRAIN, "--epochs", str(10**20)),
        ("epochs", "of size 9,223,372,036,854,775,807 at most", f"--epochs {10**20})"),
    ),
    "endless batches": Case((*TRAIN, "--batch", str(2**63)), ("batch", "at most", f"got {2**63}")),
    "an endless cutout": Case((*TRAIN, "--set", f"cutout={10**20}"), ("cutout", "at most")),
    "endless milestones": Case((*TRAIN, "--set", f"milestones=[1, {10**20}]"), ("milestones", "at most")),
    "endless workers": Case((*VERIFY, "--workers", str(10**20)), ("number of workers", "at most", f"{10**20:,}")),
    "a part of too many digits": Case((*VERIFY, "--part", f"1/{'9' * 5000}"), ("--part", "such as 2/4")),
    "a number of too many digits": Case((*TRAIN, "--epochs", "9" * 5000), ("--epochs", "integer", "999...")),
    # --set
    "a setting of too many digits": Case((*VERIFY, "--set", f"seeds={'9' * 5000}"), ("cannot be read", "5000 digits")),
    "a day that is none": Case((*VERIFY, "--set", "seeds=2024-13-45"), ("cannot be read", "month")),
    "brackets without end": Case((*VERIFY, "--set", f"x={'[' * 3000}"), ("--set x=[[[", "cannot be read")),
    "a list in itself": Case((*VERIFY, "--set", "x=&a [1, *a]"), ("--set x=&a [1, *a]", "cannot be read")),
    "unknown key": Case(
        (*VERIFY, "--set", "sead=3"), ("unknown key 'sead'", "Did you mean 'seeds'?", "Known keys: x, seeds")
    ),
    "no equals sign": Case((*VERIFY, "--set", "seeds"), ("key=value", "'seeds'")),
    "no key": Case((*VERIFY, "--set", "=3"), ("key=value", "'=3'")),
    "a word for a number": Case((*VERIFY, "--set", "seeds=many"), ("seeds", "integer", "'many'")),
    "a number for a list": Case((*VERIFY, "--set", "x=3"), ("x", "list", "3")),
    "true for a number": Case((*VERIFY, "--set", "seeds=true"), ("seeds", "true or false")),
    "a key below a number": Case((*VERIFY, "--set", "seeds.a=1"), ("'seeds'", "no keys below")),
    "broken YAML in a setting": Case((*VERIFY, "--set", "x=[1"), ("x=[1", "not valid YAML")),
    # --config
    "missing file": Case((*VERIFY, "--config", "no.yaml"), ("no.yaml does not exist",)),
    "a mistyped file of ours": Case(
        (*VERIFY, "--config", "configs/lazy_rat.yaml"), ("does not exist", "Did you mean 'configs/lazy_rate.yaml'?")
    ),
    "a folder for a file": Case((*VERIFY, "--config", "empty"), ("cannot read config file empty",)),
    "a list for a mapping": Case((*VERIFY, "--config", "a"), ("a list", "'key: value'"), content(a="- 1\n- 2\n")),
    "broken YAML": Case((*VERIFY, "--config", "a"), ("not valid YAML at line 3",), content(a="seeds: 3\nx: [1\n")),
    "unknown key in a file": Case((*VERIFY, "--config", "a"), ("'sedes'", "'seeds'", "in a"), content(a="sedes: 3\n")),
    "a key twice": Case((*VERIFY, "--config", "a"), ("'seeds'", "twice"), content(a="seeds: 3\nseeds: 4\n")),
    "a wrong value in a file": Case((*MAIN, "--config", "a"), ("width", "'wide'", "in a"), content(a="width: wide\n")),
    # --out
    "a file for a folder": Case((*VERIFY, "--out", "a"), ("a is a file", "--out"), content(a="text")),
    "a folder below a file": Case(
        (*VERIFY, "--out", "a/b"), ("cannot make the folder a/b", "--out"), content(a="text")
    ),
    "a place where nothing can be made": Case((*VERIFY, "--out", "/proc/run"), ("cannot make the folder", "--out")),
    "files of others": Case((*VERIFY, "--out", "run"), ("no run's", "thesis.tex", "--out"), foreign),
    "files of others and --fresh": Case((*VERIFY, "--out", "run", "--fresh"), ("no run's", "thesis.tex"), foreign),
    "another configuration": Case(
        (*VERIFY, "--out", "run", "--set", "seeds=5"), ("seeds is 3 there, 5 here", "--out", "--fresh"), finished()
    ),
    "another command's run": Case(MAIN, ("a run of 'toy'", "--out", "--fresh"), finished()),
    "a damaged log": Case((*VERIFY, "--out", "run"), ("points.jsonl is damaged: line 1",), cut_log),
    "a damaged record": Case((*VERIFY, "--out", "run"), ("run.json is damaged",), finished(run__json="{")),
    "an empty folder name": Case((*VERIFY, "--out", ""), ("--out", "needs a path", "empty text")),
    "an empty file name": Case((*VERIFY, "--config", ""), ("--config", "needs a path")),
    # judge
    "judge no name": Case(("judge", ""), ("RUN", "needs a path")),
    "judge a training run": Case(("judge", "run"), ("a training run", "run/table.md", "ot-gap run/best.pt"), training),
    "judge training runs": Case(("judge", "run"), ("a training run", "ot-gap run/seed0/best.pt"), trainings),
    "judge a run of fit": Case(("judge", "run"), ("regimes.fit", "no verdict", "run/table.md"), training_of("fit")),
    "judge nothing": Case(("judge", "absent"), ("absent does not exist", "folder of a run")),
    "judge a file": Case(("judge", "a"), ("a is a file", "folder of a run"), content(a="text")),
    "judge an empty folder": Case(("judge", "empty"), ("empty is not the folder of a run",)),
    "judge files of others": Case(("judge", "run"), ("run is not the folder of a run",), foreign),
    "judge a run without rows": Case(
        ("judge", "run"), ("no rows yet", "run the experiment"), finished(points__jsonl=None, rows__csv=None)
    ),
    "judge a damaged log": Case(("judge", "run"), ("points.jsonl is damaged: line 1", "delete that line"), cut_log),
    "judge damaged launches": Case(
        ("judge", "run"), ("run.json is damaged",), finished(run__json='{"name": "toy", "launches": [3]}')
    ),
    "judge damaged rows": Case(
        ("judge", "run"), ("rows.csv is damaged", "column x"), finished(points__jsonl=None, rows__csv="a,b\n1,2\n")
    ),
    "judge a damaged record": Case(("judge", "run"), ("run.json is damaged",), finished(run__json="[]")),
    "judge an unknown experiment": Case(("judge", "run"), ("'kernel_drift'", "known: toy"), other_experiment),
    "judge a changed configuration": Case(("judge", "run"), ("unknown key 'old'",), finished(config__yaml="old: 1\n")),
    "judge a main job without measurement": Case(("judge", "run"), ("measured nothing yet", "run it"), main_job(None)),
    "judge a damaged measurement": Case(("judge", "run"), ("measurement.npz is damaged", "delete it"), main_job(b"PK")),
    "an empty measurement": Case(MAIN, ("measurement.npz is damaged", "delete it"), main_job(b"")),
    # train
    "train on an unknown data set": Case((*TRAIN, "--dataset", "cifar"), ("dataset", "'cifar10'", "'cifar'")),
    "train on a list of data sets": Case((*TRAIN, "--set", "dataset=[digits]"), ("dataset", "['digits']")),
    "train a list of architectures": Case((*TRAIN, "--set", "arch=[dense]"), ("arch", "string", "['dense']")),
    "train with an endless seed": Case((*TRAIN, "--seed", "99999999999999999999"), ("seed", "less than or equal to")),
    "train an unknown architecture": Case((*TRAIN, "--arch", "resnet10"), ("resnet9", "'resnet10'")),
    "an unknown option of an architecture": Case((*TRAIN, "--set", "arch_options.filter=3"), ("filters", "'filter'")),
    "images for a plane": Case((*TRAIN, "--dataset", "circles", "--arch", "resnet9"), ("images", "arch=dense")),
    "train with lr 0": Case((*TRAIN, "--set", "lr=0"), ("lr", "greater than 0", "(from --set lr=0)")),
    "train with lr -1": Case((*TRAIN, "--set", "lr=-1"), ("lr", "greater than 0")),
    "train with a word for lr": Case((*TRAIN, "--set", "lr=fast"), ("lr", "number", "'fast'")),
    "train with λ -1": Case((*TRAIN, "--lap", "--set", "multiplier=-1"), ("multiplier", "greater than 0")),
    "train with p 0.5": Case((*TRAIN, "--lap", "--set", "p=0.5"), ("p", "greater than or equal to 1")),
    "train for no epoch": Case((*TRAIN, "--epochs", "0"), ("epochs", "greater than or equal to 1")),
    "train with batch 1": Case((*TRAIN, "--batch", "1"), ("batch normalisation", "--batch 2")),
    "train on no sample": Case((*TRAIN, "--train-size", "0"), ("train_size", "greater than or equal to 1")),
    "train on one sample": Case((*TRAIN, "--train-size", "1"), ("at least 2 samples", "got 1")),
    "train on too many samples": Case((*TRAIN, "--train-size", "5000"), ("1438 samples", "train_size=5000")),
    "train on a fraction": Case((*TRAIN, "--train-size", "0.5"), ("--train-size", "integer", "'0.5'")),
    "no MNIST to train on": Case((*TRAIN, "--dataset", "mnist"), ("MNIST", "--data-dir", "REGIMES_DATA_DIR")),
    "no CIFAR to train on": Case(
        (*TRAIN, "--dataset", "cifar10", "--data-dir", "empty"), ("CIFAR-10", "--data-dir", "empty")
    ),
    "train without CUDA": Case((*TRAIN, "--device", "cuda"), ("cuda", "--device cpu")),
    "train on an unknown device": Case((*TRAIN, "--device", "tpu"), ("device", "'cpu' or 'cuda'", "'tpu'")),
    "resume nothing": Case((*TRAIN, "--resume"), ("no last.pt", "leave out --resume")),
    "resume and start anew": Case((*TRAIN, "--resume", "--fresh"), ("--resume", "--fresh", "one of the two")),
    "train into files of others": Case(TRAIN, ("no run's", "thesis.tex", "--out"), foreign),
    "train into another command's run": Case(TRAIN, ("a run of 'toy'", "--out", "--fresh"), finished()),
    "train into another configuration": Case(
        (*TRAIN, "--set", "lr=0.5"), ("lr is 0.05 there, 0.5 here", "--fresh"), half_trained(None)
    ),
    "go on from a cut checkpoint": Case(TRAIN, ("last.pt is truncated or damaged",), half_trained(b"PK\x03\x04cut")),
    "go on from an empty checkpoint": Case(TRAIN, ("last.pt is empty",), half_trained(b"")),
    "go on from a file that is none": Case(TRAIN, ("last.pt is no checkpoint",), half_trained(b"text")),
    # data and devices
    "no MNIST": Case((*MAIN, "--dataset", "mnist"), ("MNIST", "--data-dir", "REGIMES_DATA_DIR")),
    "no MNIST in the folder": Case(
        (*MAIN, "--dataset", "mnist", "--data-dir", "empty"), ("MNIST", "empty/MNIST/raw", "--data-dir")
    ),
    "a truncated MNIST file": Case(
        (*MAIN, "--dataset", "mnist"), ("not the original", "truncated", "fetch it again"), mnist(lambda data: data[:9])
    ),
    "another file under MNIST's name": Case(
        (*MAIN, "--dataset", "mnist"), ("not the original", "SHA-256", "fetch it again"), mnist(lambda data: data)
    ),
    "no CUDA": Case((*MAIN, "--device", "cuda"), ("cuda", "cpu")),
    "an unknown class": Case((*MAIN, "--dataset", "digits", "--set", "classes=[3, 12]"), ("classes", "12")),
    "classes of a regression": Case((*MAIN, "--set", "classes=[3, 8]"), ("classes",)),
    "more samples than there are": Case((*MAIN, "--dataset", "digits", "--set", "train_size=5000"), ("1797", "5000")),
}


def check(ended: Ended, parts: tuple[str, ...]) -> None:
    assert ended.code == 2, ended
    assert len(ended.err.splitlines()) == 1, ended.err
    assert "Traceback" not in ended.err + ended.out
    for part in parts:
        assert part in ended.err


def snapshot(folder: Path) -> dict[str, bytes]:
    return {str(file): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


@pytest.mark.parametrize("name", CASES)
def test_a_mistake_is_one_line_and_nothing_is_lost(name, tmp_path):
    case = CASES[name]
    case.prepare(tmp_path)
    before = snapshot(tmp_path)
    check(command(*case.arguments), case.parts)
    after = snapshot(tmp_path)
    assert {file: after.get(file) for file in before} == before


@pytest.mark.parametrize("name", ["no CUDA", "no MNIST in the folder", "classes of a regression"])
def test_a_mistake_leaves_the_folder_free_for_the_corrected_command(name, tmp_path):
    assert command(*CASES[name].arguments).code == 2
    assert not (tmp_path / "run").exists()


def test_no_code_of_a_checkpoint_is_run(tmp_path):
    CASES["a checkpoint that runs code"].prepare(tmp_path)
    assert command(*GAP).code == 2
    assert not (tmp_path / "sprung").exists()
    assert not (tmp_path / "run").exists()


def test_there_are_cases_enough():
    assert len(CASES) >= 30


@pytest.mark.parametrize("name", ["unknown command", "unknown key", "a list for a mapping", "a file for a folder"])
@pytest.mark.slow
def test_a_process_of_its_own_behaves_in_the_same_way(name, tmp_path):
    case = CASES[name]
    case.prepare(tmp_path)
    arguments = ["init_scale" if argument == "toy" else argument for argument in case.arguments]
    done = subprocess.run(
        [sys.executable, str(ROOT / "cli.py"), *arguments],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    parts = tuple(part for part in case.parts if "Known keys" not in part and "seeds" not in part)
    check(Ended(done.returncode, done.stdout, done.stderr), parts)
