"""The job diagnose: from files to a verdict in a run folder; initial weights of runs; mistakes in one line."""

import json
import shutil
import sys
import time
from pathlib import Path

import pytest
import torch
from command import command
from short_training import short, train
from torch import nn

from regimes.errors import UserError, out_of_memory
from regimes.jobs import diagnose as job
from regimes.jobs.diagnose import Config, given_files
from regimes.jobs.diagnose.figure import draw
from regimes.jobs.diagnose.report import LABELS, layer_table, missing, plain, table
from regimes.jobs.diagnose.sources import made_by, open_case
from regimes.jobs.lazy_vs_meanfield import states
from regimes.lab.safetensors import read_safetensors
from regimes.models.scaling import Centred
from regimes.tangent.diagnosis.diagnose import diagnose
from regimes.training.checkpoint import INITIAL, load_checkpoint
from regimes.training.first_weights import first_weights
from regimes.training.fitting import fit
from regimes.training.run import train_one

FACTORY = """
import torch
from torch import nn
from regimes.models.scaling import Centred


def make():
    torch.manual_seed(0)
    return Centred(nn.Sequential(nn.Linear(3, 30), nn.Tanh(), nn.Linear(30, 1)).double(), ALPHA)


def broken():
    raise RuntimeError("no such thing")


def leaves():
    raise SystemExit(7)


def number():
    return 3
"""


def samples():
    x = torch.randn(40, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return x, (x[:, :1] * x[:, 1:2]).tanh()


def write_own(folder: Path, alpha: float) -> tuple[str, ...]:
    """A trained net of the user's own in files; the words that diagnose it."""
    (folder / "own.py").write_text(FACTORY.replace("ALPHA", str(alpha)))
    x, y = samples()
    model = made_by(f"{folder / 'own.py'}:make")
    torch.save(model.state_dict(), folder / "start.pt")
    optimiser = torch.optim.SGD(model.parameters(), 0.2 / alpha**2)
    for _ in range(200):
        optimiser.zero_grad()
        (model(x) - y).square().mean().backward()
        optimiser.step()
    torch.save({"state_dict": model.state_dict()}, folder / "end.pt")
    torch.save({"x": x, "y": y}, folder / "samples.pt")
    return ("diagnose", "end.pt", "--against", "start.pt", "--factory", "own.py:make", "--samples", "samples.pt")


def to_safetensors(path: Path, tensors: dict[str, torch.Tensor]) -> None:
    header, body = {"__metadata__": {"format": "pt"}}, b""
    for name, tensor in tensors.items():
        data = tensor.contiguous().numpy().tobytes()
        kind = {torch.float64: "F64", torch.int64: "I64", torch.float32: "F32"}[tensor.dtype]
        places = [len(body), len(body) + len(data)]
        header[name] = {"dtype": kind, "shape": list(tensor.shape), "data_offsets": places}
        body += data
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + body)


@pytest.fixture(scope="module")
def numbers():
    """A diagnosis as plain numbers."""
    x = samples()[0]
    torch.manual_seed(0)
    start = Centred(nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 1)).double(), 1.0)
    end = Centred(nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 1)).double(), 1.0)
    end.load_state_dict(start.state_dict())
    with torch.no_grad():
        end.model[0].weight.add_(0.3 * torch.randn(8, 3))
    return plain(
        diagnose(start, end, x, end(x).detach(), omit=("kappa",)), title="a net", samples=40, notes=["A note."]
    )


def test_the_table_names_every_number_and_says_what_is_missing(numbers):
    assert [row["number"] for row in table(numbers)] == list(LABELS.values())
    assert set(numbers["readings"]) == set(LABELS)
    told = missing(numbers)
    assert any("κ at the start: left out, as asked" in line for line in told)
    assert len(told) == sum(reading["value"] is None for reading in numbers["readings"].values())
    assert [row["layer"] for row in layer_table(numbers)] == ["model.0", "model.2"]


@pytest.mark.slow
def test_the_figure_marks_the_number_that_decided(numbers):
    figure = draw(numbers)
    assert len(figure.axes) == 3
    assert numbers["verdict"].upper() in figure.get_suptitle()
    assert draw({**numbers, "layers": []}).axes


@pytest.mark.slow
@pytest.mark.parametrize(("alpha", "verdict"), [(100.0, "lazy"), (0.3, "not lazy")])
def test_files_and_a_factory_are_enough(alpha, verdict, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = write_own(tmp_path, alpha)
    done = command(*words, "--out", "run")
    assert done.code == 0, done.err
    result = json.loads(Path("run/result.json").read_text())
    assert result["verdict"] == verdict
    assert result["words"][0].upper() + result["words"][1:] in done.out
    for file in ("table.md", "figure.png", "config.yaml", "run.json"):
        assert Path("run", file).exists()
    for name in ("start", "end"):
        loaded = torch.load(f"{name}.pt", weights_only=True)
        to_safetensors(Path(f"{name}.safetensors"), dict(loaded.get("state_dict", loaded)))
    again = command(*[word.replace("end.pt", "end.safetensors").replace("start.pt", "start.safetensors")
                      for word in words], "--out", "other")  # fmt: skip
    assert again.code == 0, again.err
    assert json.loads(Path("other/result.json").read_text())["words"] == result["words"]
    assert command("judge", "run").code == 0
    assert json.loads(Path("run/result.json").read_text())["words"] == result["words"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"own.py:make": "own.py:broken"}, "own.py:broken ends in RuntimeError: no such thing"),
        ({"own.py:make": "own.py:leaves"}, "own.py:leaves ends in SystemExit: 7"),
        ({"own.py:make": "own.py:number"}, "needs to return a torch module; it gave int"),
        ({"own.py:make": "own.py:nothing"}, "has no function nothing"),
        ({"own.py:make": "own"}, "needs module:function"),
        ({"own.py:make": "no_such_module:make"}, "cannot be imported"),
        ({"start.pt": "none.pt"}, "none.pt does not exist"),
        ({"end.pt": "none.pt"}, "none.pt does not exist"),
        ({"end.pt": "own.py"}, "is no checkpoint"),
        ({"start.pt": "samples.pt"}, "do not fit own.py:make"),
        ({"samples.pt": "start.pt"}, "has no tensors x and y"),
        ({"samples.pt": "nan.pt"}, "finite"),
        ({"end.pt": "nan_weights.pt"}, "finite parameter"),
        ({"--against": None, "start.pt": None}, "where its training began"),
        ({"--samples": None, "samples.pt": None}, "says nothing of its samples"),
        ({"--factory": None, "own.py:make": None}, "pass --factory module:function"),
    ],
)
def test_a_mistake_is_one_line(change, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    given = write_own(tmp_path, 10.0)
    x, y = samples()
    torch.save({"x": x * float("nan"), "y": y}, "nan.pt")
    weights = torch.load("start.pt", weights_only=True)
    weights["model.0.weight"] = weights["model.0.weight"] * float("nan")
    torch.save(weights, "nan_weights.pt")
    changed = [change.get(word, word) for word in given]
    done = command(*[word for word in changed if word is not None], "--out", "run")
    assert done.code == 2, done.err
    assert words in done.err
    assert len(done.err.strip().splitlines()) == 1
    assert not Path("run").exists()


def test_a_damaged_safetensors_file_is_one_line(tmp_path):
    whole = tmp_path / "a.safetensors"
    tensors = {"w": torch.arange(6.0).reshape(2, 3), "empty": torch.empty(0, 3)}
    to_safetensors(whole, tensors)
    for name, tensor in read_safetensors(whole).items():
        assert torch.equal(tensor, tensors[name])
    data = whole.read_bytes()
    for bad in (b"", data[:5], data[:-4], data.replace(b'"F32"', b'"F99"'), b"\xff" * 40, data.replace(b"[2,", b"[3,")):
        (tmp_path / "b.safetensors").write_bytes(bad)
        if bad != data:
            with pytest.raises(UserError, match=r"b\.safetensors is no whole safetensors file"):
                read_safetensors(tmp_path / "b.safetensors")


@pytest.mark.slow
def test_a_run_keeps_its_initial_weights_and_an_older_one_gets_them_back(tmp_path):
    train(tmp_path, epochs=2)
    last = load_checkpoint(tmp_path / "last.pt")
    kept, words = first_weights(tmp_path / "last.pt", last)
    assert INITIAL in words
    assert load_checkpoint(tmp_path / INITIAL).state["step"] == 0
    before = (tmp_path / INITIAL).read_bytes()
    train_one(short(epochs=4), tmp_path)  # goes further
    assert (tmp_path / INITIAL).read_bytes() == before
    assert first_weights(tmp_path / "last.pt", load_checkpoint(tmp_path / "last.pt"))[0].keys() == kept.keys()
    (tmp_path / INITIAL).unlink()
    drawn, words = first_weights(tmp_path / "last.pt", last)
    assert "drawn again" in words
    for name, tensor in kept.items():
        assert torch.equal(tensor, drawn[name]), name
    with pytest.raises(UserError, match=r"do not give the first step of that run .* pass its initial weights"):
        first_weights(tmp_path / "last.pt", last._replace(start=1.01 * last.start))


@pytest.mark.slow
def test_initial_weights_of_another_run_are_refused(tmp_path):
    for seed in (0, 1):
        train(tmp_path / str(seed), epochs=1, seed=seed)
    (tmp_path / "1" / INITIAL).replace(tmp_path / "0" / INITIAL)
    with pytest.raises(UserError, match="of another run"):
        first_weights(tmp_path / "0" / "last.pt", load_checkpoint(tmp_path / "0" / "last.pt"))


@pytest.mark.slow
def test_a_run_of_train_needs_its_checkpoint_alone(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    train(Path("net"), lap=False)
    done = command("diagnose", "net/last.pt", "--points", "50", "--kernel-points", "20", "--out", "run")
    assert done.code == 0, done.err
    result = json.loads(Path("run/result.json").read_text())
    assert "The initial weights are those of net/initial.pt." in result["notes"]
    assert any("Batch norms" in note for note in result["notes"])
    assert result["points"] == 50
    assert result["readings"]["kernel_drift"]["value"] > 0
    with_samples = command("diagnose", "net/last.pt", "--samples", "net/last.pt")
    assert with_samples.code == 2
    assert "leave --samples out" in with_samples.err


@pytest.mark.slow
def test_a_run_of_fit_is_diagnosed_with_its_factory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("net.py").write_text("from torch import nn\n\ndef make():\n    return nn.Sequential(nn.Linear(3, 2))\n")
    x, _ = samples()
    labels = (x[:, 0] > 0).long()
    fit(made_by("net.py:make"), (x.float(), labels), epochs=4, batch=10, validation=None, out="fitted")
    torch.save({"x": x.float(), "y": labels}, "samples.pt")
    found = given_files(Path("fitted/last.pt"), None, Path("samples.pt"))
    case = open_case(Config(**found, factory="net.py:make"), 2000)
    assert diagnose(case.start, case.end, case.x, case.y).verdict == "lazy"  # it is linear
    no_factory = command("diagnose", "fitted/last.pt")
    assert no_factory.code == 2
    assert "pass --factory" in no_factory.err


@pytest.mark.slow
def test_initial_weights_of_another_fit_are_refused_and_those_given_are_taken(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("net.py").write_text("from torch import nn\n\ndef make():\n    return nn.Sequential(nn.Linear(3, 2))\n")
    x, _ = samples()
    labels = (x[:, 0] > 0).long()
    torch.save({"x": x.float(), "y": labels}, "samples.pt")
    for number in (0, 1):
        fit(made_by("net.py:make"), (x.float(), labels), epochs=2, batch=10, out=f"fit{number}")
    words = ("diagnose", "fit0/last.pt", "--factory", "net.py:make", "--samples", "samples.pt", "--out", "run")
    shutil.copy("fit1/initial.pt", "fit0/initial.pt")
    done = command(*words)
    assert done.code == 2
    assert "fit0/initial.pt is of another run than last.pt; pass the right one with --against" in done.err
    Path("fit0/initial.pt").unlink()
    gone = command(*words)
    assert gone.code == 2
    assert "pass --against INIT" in gone.err
    assert not Path("run").exists()
    assert command(*words, "--against", "fit1/initial.pt").code == 0


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a card")
def test_a_card_that_is_not_there_is_one_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = command(*write_own(tmp_path, 10.0), "--set", "device=cuda", "--out", "run")
    assert done.code == 2
    assert "device 'cuda' needs a CUDA graphics card" in done.err
    assert not Path("run").exists()


def slowly(monkeypatch, seconds):
    """Have each measurement take so many seconds more; the list of those that were begun."""
    begun, checked = [], job.checked

    def slower(*arguments, **how):
        measure = checked(*arguments, **how)

        def measured():
            begun.append(time.monotonic())
            time.sleep(seconds)
            return measure()

        return measured

    monkeypatch.setattr(job, "checked", slower)
    return begun


@pytest.mark.slow
def test_a_measurement_is_made_in_its_folder_which_knows_how_long_it_took(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    begun = slowly(monkeypatch, 0.7)
    words = write_own(tmp_path, 10.0)
    assert command(*words, "--out", "run").code == 0
    assert json.loads(Path("run/result.json").read_text())["wall_seconds"] >= 0.7
    Path("run/measurement.json").unlink()  # another run, which holds something, and no measurement yet
    refused = command(*words, "--seed", "1", "--out", "run")
    assert refused.code == 2
    assert "holds another configuration: seed is 0 there, 1 here" in refused.err
    assert len(begun) == 1


@pytest.mark.slow
def test_another_file_is_another_measurement(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    words = write_own(tmp_path, 10.0)
    as_module = [word.replace("own.py:make", "own:make") for word in words]
    for given, run in ((words, "file"), (as_module, "module")):
        assert command(*given, "--out", run).code == 0
        assert command(*given, "--out", run).code == 0
    own = Path("own.py").read_text()
    Path("own.py").write_text(own.replace("10.0", "20.0"))
    for given, run in ((words, "file"), (as_module, "module")):
        done = command(*given, "--out", run)
        assert done.code == 2
        assert "holds another configuration: factory_code" in done.err


@pytest.mark.slow
def test_other_initial_weights_are_another_measurement(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    train(Path("net"), lap=False, epochs=1)
    words = ("diagnose", "net/last.pt", "--points", "20", "--kernel-points", "4", "--out", "run")
    assert command(*words).code == 0
    held = torch.load("net/initial.pt", weights_only=True)
    held["start"] = 1.0
    torch.save(held, "net/initial.pt")
    done = command(*words)
    assert done.code == 2
    assert "holds another configuration: initial" in done.err


FULL = RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8000000000000 bytes")


@pytest.mark.parametrize("error", [MemoryError("no memory"), FULL])
def test_a_full_memory_is_not_a_fault_of_the_files(error, tmp_path, monkeypatch):
    def full(*_):
        raise error

    monkeypatch.setattr(states, "_net", full)
    content = {name: number * [torch.zeros(2, 2)] for name, number in states.TENSORS.items()}
    with pytest.raises(type(error)) as caught:
        states.read_states({**content, "title": "a net"}, "a.pt")
    assert out_of_memory(caught.value)
    said = f"raise {type(error).__name__}({str(error)!r})"
    (tmp_path / "made.py").write_text(f"def make():\n    {said}\n")
    (tmp_path / "imported.py").write_text(f"{said}\n")
    for name in ("made", "imported"):
        with pytest.raises(type(error)) as caught:
            made_by(f"{tmp_path / name}.py:make")
        assert out_of_memory(caught.value)


@pytest.mark.parametrize(
    "change",
    [
        {"start": []},
        {"x": [torch.zeros(2, 2)] * 2},
        {"start": None},
        {"end": [torch.zeros(2), torch.zeros(2, 2)]},
        {"activation": "none"},
        {"alpha": "one"},
    ],
    ids=["no start", "two samples", "none", "a vector", "activation", "alpha"],
)
def test_a_damaged_state_of_the_main_job_is_one_line(change):
    content = {name: number * [torch.zeros(2, 2)] for name, number in states.TENSORS.items()}
    with pytest.raises(UserError, match=r"a\.pt lacks parts of a net of lazy-vs-meanfield, or they were altered: \S"):
        states.read_states({**content, "activation": "relu", "alpha": 1.0, "title": "a net", **change}, "a.pt")


@pytest.mark.slow
def test_initial_weights_are_drawn_again_without_compiling_a_network(tmp_path, monkeypatch):
    train(tmp_path, epochs=1)
    (tmp_path / INITIAL).unlink()
    last = load_checkpoint(tmp_path / "last.pt")
    compiled = last._replace(config={**last.config, "compile": True, "cuda_graphs": True})
    monkeypatch.setattr(nn.Module, "compile", lambda *_, **__: pytest.fail("a network was compiled"))
    assert "drawn again" in first_weights(tmp_path / "last.pt", compiled)[1]


@pytest.mark.slow
def test_the_scaled_net_of_the_main_job_is_lazy_and_its_mean_field_net_is_not(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    sizes = (
        "--dataset",
        "circle",
        "--seeds",
        "1",
        "--set",
        "test_size=50",
        "--set",
        "horizon=300",
        "--set",
        "times=40",
    )
    assert command("lazy-vs-meanfield", "--alpha", "100", *sizes, "--out", "main").code == 0
    said = {}
    for net in ("scaled-net", "mean-field-net"):
        done = command("diagnose", f"main/{net}.pt", "--out", net)
        assert done.code == 0, done.err
        said[net] = json.loads(Path(net, "result.json").read_text())["verdict"]
    assert said == {"scaled-net": "lazy", "mean-field-net": "not lazy"}
    alone = command("diagnose", "main/scaled-net.pt", "--against", "main/mean-field-net.pt")
    assert alone.code == 2
    assert "give it alone" in alone.err
    broken = torch.load("main/scaled-net.pt", weights_only=True)
    torch.save({**broken, "end": broken["end"][:1]}, "broken.pt")
    assert "lacks parts of a net" in command("diagnose", "broken.pt").err


@pytest.mark.parametrize("name", ["own_net.py", "net with a space.py"])
def test_a_file_of_dataclasses_that_imports_its_neighbour_is_a_factory(tmp_path, name):
    (tmp_path / "neighbour_of_a_factory.py").write_text("SIZE = 3\n")
    (tmp_path / name).write_text(
        "from __future__ import annotations\n"
        "from dataclasses import dataclass\n"
        "import torch\n"
        "from neighbour_of_a_factory import SIZE\n"
        "@dataclass\n"
        "class Shape:\n"
        "    size: int = SIZE\n"
        "def make():\n"
        "    return torch.nn.Linear(Shape().size, 2)\n"
    )
    path = list(sys.path)
    assert made_by(f"{tmp_path / name}:make").in_features == 3
    assert sys.path == path


def test_a_factory_does_not_take_the_name_of_another_module(tmp_path):
    (tmp_path / "torch.py").write_text("import torch\nmake = lambda: torch.nn.Linear(1, 1)\n")
    assert isinstance(made_by(f"{tmp_path / 'torch.py'}:make"), torch.nn.Linear)
    assert sys.modules["torch"] is torch
