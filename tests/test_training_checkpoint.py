"""Checkpoints: what is saved comes back bit for bit, bad files are one line, nothing in them ever runs."""

import errno
import os
import pickle
import pickletools
import random
import zipfile
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from regimes.errors import UserError
from regimes.lab.checkpoint_fields import COLUMNS
from regimes.lab.config import dump
from regimes.training import checkpoint as checkpoints
from regimes.training.assemble import assemble
from regimes.training.checkpoint import (
    Checkpoint,
    data_of,
    load_checkpoint,
    model_of,
    rng_state,
    save_checkpoint,
    set_rng_state,
)
from regimes.training.config import TrainConfig
from regimes.training.loop import descend

CONFIG = TrainConfig(
    dataset="digits",
    arch="resnet9",
    arch_options={"filters": 4, "blocks": 2},
    train_size=64,
    validation=20,
    lap=True,
    schedule="multistep",
    milestones=[1],
)


def trained(config: TrainConfig = CONFIG, epochs: int = 1):
    assembly = assemble(config)
    for _ in descend(assembly.training, assembly.batches, epochs=epochs):
        pass
    return assembly


def made(assembly, config: TrainConfig = CONFIG, **more) -> Checkpoint:
    state = assembly.training.state_dict()
    return Checkpoint(dump(config), state, rng_state(), assembly.data.shape, assembly.data.classes, **more)


ROW = {**dict.fromkeys(COLUMNS), "epoch": 1, "steps": 20, "risk": 0.1}


@pytest.fixture(scope="module")
def assembly():
    return trained()


@pytest.fixture
def file(tmp_path, assembly) -> Path:
    path = tmp_path / "last.pt"
    save_checkpoint(path, made(assembly, rows=[ROW]))
    return path


def test_everything_comes_back_bit_for_bit(file, assembly):
    held = load_checkpoint(file)
    state = assembly.training.state_dict()
    assert held.config == dump(CONFIG)
    assert TrainConfig.model_validate(held.config) == CONFIG
    assert (held.shape, held.classes) == ((1, 8, 8), 10)
    assert held.rows == [ROW]
    assert_close(held.state["model"], dict(state["model"]), rtol=0, atol=0)
    assert_close(held.state["optimizer"]["state"], state["optimizer"]["state"], rtol=0, atol=0)
    assert_close(held.state["objective"]["multiplier"], state["objective"]["multiplier"], rtol=0, atol=0)
    assert (held.state["epoch"], held.state["step"]) == (1, 0)
    assert_close(held.rng["cpu"], torch.get_rng_state())


def test_the_file_holds_tensors_and_plain_values_only(file):
    with zipfile.ZipFile(file) as opened:
        names = {name.rpartition("/")[2]: name for name in opened.namelist()}
        content = opened.read(names["data.pkl"])
    asked = {str(argument) for opcode, argument, _ in pickletools.genops(content) if "GLOBAL" in opcode.name}
    known = {"torch._utils _rebuild_tensor_v2", "collections OrderedDict"}
    assert {name for name in asked if not name.endswith("Storage")} == known


def test_the_model_is_rebuilt_in_eval_mode_with_its_outputs(file, assembly):
    model = model_of(load_checkpoint(file))
    x = torch.randn(5, 1, 8, 8)
    assert not model.training
    own = assembly.training.model
    own.eval()
    assert_close(model(x), own(x))
    own.train()


def test_the_data_of_a_checkpoint_are_those_of_the_run(file, assembly):
    data = data_of(load_checkpoint(file).config)
    for part in ("train", "validation", "test"):
        assert_close(getattr(data, part).x, getattr(assembly.data, part).x)
        assert_close(getattr(data, part).labels, getattr(assembly.data, part).labels)
    assert_close(data.normalise.mean, assembly.data.normalise.mean)


def test_random_numbers_go_on_where_they_were():
    torch.rand(3)
    state = rng_state()
    expected = torch.rand(4)
    torch.rand(9)
    set_rng_state(state)
    assert_close(torch.rand(4), expected, rtol=0, atol=0)


def test_a_full_disk_keeps_the_old_file_and_leaves_no_other(file, assembly, monkeypatch):
    before = file.read_bytes()

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left on device") as caught:
        save_checkpoint(file, made(assembly))
    monkeypatch.undo()
    assert caught.value.errno == errno.ENOSPC
    assert "\n" not in str(caught.value)
    assert file.read_bytes() == before
    assert list(file.parent.iterdir()) == [file]


def test_the_file_is_flushed_before_it_takes_the_old_ones_place(file, assembly, monkeypatch):
    order = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda d: order.append("fsync") or fsync(d))
    monkeypatch.setattr(os, "replace", lambda a, b: order.append("replace") or replace(a, b))
    save_checkpoint(file, made(assembly))
    assert order[:2] == ["fsync", "replace"]


def test_something_that_is_no_plain_value_is_not_saved(file, assembly):
    with pytest.raises(TypeError, match="Path"):
        save_checkpoint(file, made(assembly)._replace(best={"path": Path("x")}))


class Evil:
    """Leaves a trace when it is unpickled."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self):
        return (os.mkdir, (str(self.trace),))


def bad(name: str, path: Path, good: bytes) -> None:
    content = torch.load(path, weights_only=True)
    if name == "missing":
        path.unlink()
    elif name == "folder":
        path.unlink()
        path.mkdir()
    elif name == "empty":
        path.write_bytes(b"")
    elif name == "text":
        path.write_text("lr: 0.1\n")
    elif name == "cut in half":
        path.write_bytes(good[: len(good) // 2])
    elif name == "cut at the end":
        path.write_bytes(good[:-30])
    elif name == "another zip":
        with zipfile.ZipFile(path, "w") as opened:
            opened.writestr("a.txt", "text")
    elif name == "pickle with code":
        path.write_bytes(pickle.dumps(Evil(path.parent / "ran")))
    elif name == "torch file with code":
        torch.save({**content, "evil": Evil(path.parent / "ran")}, path)
    elif name == "old torch file with code":
        torch.save(Evil(path.parent / "ran"), path, _use_new_zipfile_serialization=False)
    elif name == "whole model":
        torch.save(nn.Linear(2, 2), path)
    elif name == "weights alone":
        torch.save(nn.Linear(2, 2).state_dict(), path)
    elif name == "another program's":
        torch.save({"model": nn.Linear(2, 2).state_dict(), "epoch": 3}, path)
    elif name == "a tensor":
        torch.save(torch.zeros(3), path)
    elif name == "newer":
        torch.save({**content, "version": 99}, path)
    elif name == "without version":
        torch.save({key: value for key, value in content.items() if key != "version"}, path)
    elif name == "parts missing":
        torch.save({key: value for key, value in content.items() if key != "rng"}, path)
    elif name == "state incomplete":
        torch.save({**content, "state": {}}, path)
    elif name == "unknown setting":
        torch.save({**content, "config": {**content["config"], "warmup": 3}}, path)


BAD = {
    "missing": "does not exist",
    "folder": "is a folder",
    "empty": "is empty",
    "text": "no checkpoint",
    "cut in half": "truncated or damaged",
    "cut at the end": "truncated or damaged",
    "another zip": "truncated or damaged",
    "pickle with code": "no checkpoint",
    "torch file with code": "could run code",
    "old torch file with code": "no checkpoint",
    "whole model": "could run code",
    "weights alone": "weights of a model alone",
    "another program's": "of another program",
    "a tensor": "of another program",
    "newer": "format 99",
    "without version": "format is None",
    "parts missing": "lacks parts",
    "state incomplete": "lacks parts",
    "unknown setting": "warmup",
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_is_one_line_that_says_what_to_do_and_runs_nothing(name, file):
    bad(name, file, file.read_bytes())
    with pytest.raises((ValueError, FileNotFoundError), match=BAD[name]) as caught:
        load_checkpoint(file)
    text = str(caught.value)
    assert "\n" not in text
    assert str(file) in text
    assert any(advice in text for advice in ("last.pt", "newer"))
    assert not (file.parent / "ran").exists()


def test_the_code_of_the_test_files_would_run_if_it_were_let(tmp_path):
    file = tmp_path / "evil.pt"
    torch.save(Evil(tmp_path / "ran"), file)
    torch.load(file, weights_only=False)
    assert (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        ({"filters": 6, "blocks": 2}, ("resnet9", "encoder", "shape")),
        ({"filters": 4, "blocks": 3}, ("resnet9", "segments.0.blocks.2", "the checkpoint has nothing")),
        ({"filters": 4, "blocks": 1}, ("resnet9", "segments.0.blocks.1", "needs nothing")),
    ],
)
def test_weights_of_another_architecture_name_the_first_that_does_not_fit(file, change, parts):
    held = load_checkpoint(file)
    with pytest.raises(ValueError, match="do not fit") as caught:
        model_of(held._replace(config={**held.config, "arch_options": change}))
    assert all(part in str(caught.value) for part in parts)
    assert "\n" not in str(caught.value)


def test_complex_weights_are_refused_for_their_imaginary_part_would_be_lost(file):
    held = load_checkpoint(file)
    name, weight = next(item for item in held.state["model"].items() if item[1].is_floating_point())
    weights = {**held.state["model"], name: weight.to(torch.complex64)}
    with pytest.raises(UserError, match=f"{name} is complex in the checkpoint"):
        model_of(held._replace(state={**held.state, "model": weights}))


@pytest.mark.parametrize(
    ("change", "kind"),
    [(torch.Tensor.int, "integer"), (torch.Tensor.half, "of 16 bits"), (torch.Tensor.to_sparse, "sparse")],
)
def test_weights_that_are_no_plain_real_numbers_are_refused(file, change, kind):
    held = load_checkpoint(file)
    name, weight = next(item for item in held.state["model"].items() if item[1].is_floating_point())
    weights = {**held.state["model"], name: change(weight)}
    with pytest.raises(UserError, match=f"{name} is {kind} in the checkpoint, and real here"):
        model_of(held._replace(state={**held.state, "model": weights}))


def test_loading_never_asks_for_more_than_weights(file, monkeypatch):
    seen = []
    load = torch.load
    monkeypatch.setattr(checkpoints.torch, "load", lambda *a, **k: seen.append(k) or load(*a, **k))
    load_checkpoint(file)
    assert [kind["weights_only"] for kind in seen] == [True]


def same(one, other) -> bool:
    if isinstance(one, torch.Tensor):
        alike = (one.dtype, one.shape) == (other.dtype, other.shape)
        return alike and one.numpy().tobytes() == other.numpy().tobytes()
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return one == other


@pytest.mark.slow
def test_of_hundreds_of_flipped_bits_each_is_refused_or_changes_nothing(file):
    good, held = file.read_bytes(), load_checkpoint(file)
    with zipfile.ZipFile(file) as opened:
        parts, directory = opened.infolist(), opened.start_dir
    spots = random.Random(0)
    places = [spots.randrange(8 * len(good)) for _ in range(250)]
    places += [spots.randrange(8 * directory, 8 * len(good)) for _ in range(100)]
    places += [8 * (part.header_offset + spots.randrange(30)) + spots.randrange(8) for part in parts]
    refused = 0
    for place in places:
        content = bytearray(good)
        content[place // 8] ^= 1 << place % 8
        file.write_bytes(content)
        try:
            assert same(load_checkpoint(file)._asdict(), held._asdict()), place
        except UserError:
            refused += 1
    assert refused > 150


def test_a_part_that_is_marked_as_a_folder_is_refused_for_torch_would_read_nothing_of_it(file):
    content = bytearray(file.read_bytes())
    entry = content.rindex(b"PK\x01\x02", 0, content.index(b"data/0", content.index(b"PK\x01\x02")))
    content[entry + 38] |= 0x10
    file.write_bytes(content)
    with pytest.raises(UserError, match=r"is truncated or damaged .*marked as a folder"):
        load_checkpoint(file)


TAMPERED = {
    "shape": ([[8], [0, 8, 8], [1, 8, 10**9], ["a", 8, 8], [], [1.0, 8, 8], "188", None, -1, [[1], 8, 8]], "shape"),
    "classes": ([0, -1, 10**12, "ten", None, 10.0, True], "classes"),
    "rows": (
        [
            3,
            [1],
            [{"epoch": 0}],
            [{"epoch": 2}, {"epoch": 2}],
            [{"epoch": 1}, {}],
            [{"epoch": 1}],
            [{"epoch": 1, "risk": "low"}],
        ],
        "row",
    ),
    "best": ([3, {"epoch": 9, "score": [0.1]}, {"epoch": "1", "score": [0.1]}, {"epoch": 1}], "best"),
    "sums": ([[], 1], "sums"),
    "rng": ([{}, {"cpu": 3, "cuda": None}, []], "rng"),
    "start": (["0", None], "start"),
    "run": ([3], "run"),
    "version": ([0, -1, True, "2", 2.0], "was altered: its format"),
    "tests": ([-1, "x", None, 1.0], "tests"),
    "state": ([[], {"model": 3}], "state"),
    "config": ([[], {"dataset": "digits", "arch": 3}], "config|setting"),
}


@pytest.mark.parametrize("part", TAMPERED)
def test_a_part_of_another_kind_is_one_line_that_names_it(file, part):
    values, text = TAMPERED[part]
    content = torch.load(file, weights_only=True)
    for value in values:
        torch.save({**content, part: value}, file)
        with pytest.raises(UserError, match=rf"last\.pt .*({text})") as caught:
            load_checkpoint(file)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["epoch", "step", "model", "optimizer"])
def test_a_part_of_the_state_of_another_kind_is_named(file, name):
    content = torch.load(file, weights_only=True)
    for value in ("1", [1], -1, None):
        torch.save({**content, "state": {**content["state"], name: value}}, file)
        with pytest.raises(UserError, match=rf"state\.{name}"):
            load_checkpoint(file)


HOSTILE = [
    ("resnet9", {"filters": 10**6}),
    ("resnet9", {"filters": 10**30}),
    ("resnet9", {"blocks": 10**9}),
    ("resnet9", {"filters": "many"}),
    ("resnet9", {"filters": [4]}),
    ("resnet9", {"filters": {"a": {"b": 4}}}),
    ("resnet9", {"head": "x" * 10**5}),
    ("dense", {"width": 10**6, "blocks": 50}),
    ("dense", {"blocks": 10**9}),
    ("resnext50", {"width": 10**6}),
    ("resnext50", {"cardinality": 10**7, "width": 10**7}),
    ("preact_resnet", {"depth": 10**9}),
    ("wide_resnet", {"widen": 10**6}),
    ("vgg11", {"width": 10**6}),
]


@pytest.mark.parametrize(("arch", "options"), HOSTILE)
def test_hostile_options_end_in_one_line_before_anything_is_allocated(file, arch, options, monkeypatch):
    asked = []
    make = torch.empty

    def empty(*sizes, **kind):
        asked.append(kind.get("device") or torch.get_default_device())
        return make(*sizes, **kind)

    held = load_checkpoint(file)
    monkeypatch.setattr(torch, "empty", empty)
    with pytest.raises(UserError, match=f"{arch}|head needs") as caught:
        model_of(held._replace(config={**held.config, "arch": arch, "arch_options": options}))
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 1000
    assert {str(device) for device in asked} <= {"meta"}


def test_a_folder_is_told_of_a_checkpoint_only_where_it_has_one(tmp_path):
    with pytest.raises(FileNotFoundError) as error:
        load_checkpoint(tmp_path)
    assert "for example" not in str(error.value)
    (tmp_path / "last.pt").write_text("")
    with pytest.raises(FileNotFoundError, match=r"for example .*/last\.pt"):
        load_checkpoint(tmp_path)
