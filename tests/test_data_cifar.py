import hashlib
import io
import os
import pickle
import sys
import tarfile
from pathlib import Path

import pooch
import pytest
import torch
from torch.testing import assert_close

from regimes.data import cifar, files, images
from regimes.data.files import File

COUNTS = {
    "data_batch_1": 3,
    "data_batch_2": 2,
    "data_batch_3": 2,
    "data_batch_4": 2,
    "data_batch_5": 1,
    "test_batch": 4,
}
FOLDER = "cifar-10-batches-py"


def pixel(image: int, position: int) -> int:
    return (7 * image + position) % 251


def old_pickle(first: int, samples: int, *, width: int = 3072, labels: list[int] | None = None) -> bytes:
    """The bytes that Python 2 wrote: a dict of one byte array and one list, protocol 2."""
    data = bytes(pixel(first + row, column) for row in range(samples) for column in range(width))
    labels = [(first + row) % 10 for row in range(samples)] if labels is None else labels
    array = (
        b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
        + b"(K\x01K" + bytes([samples]) + b"M" + width.to_bytes(2, "little") + b"\x86"
        + b"cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89"
        + b"T" + len(data).to_bytes(4, "little") + data + b"tb"
    )  # fmt: skip
    numbers = b"](" + b"".join(b"K" + bytes([label]) for label in labels) + b"e"
    return b"\x80\x02}(U\x04data" + array + b"U\x06labels" + numbers + b"u."


class Burglar:
    """Unpickled without care, it writes a file."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self):
        return exec, (f"open({str(self.trace)!r}, 'w').close()",)


def know(monkeypatch, contents: dict[str, bytes]) -> None:
    """Take these contents for the original ones."""
    table = tuple(File(name, hashlib.sha256(content).hexdigest()) for name, content in contents.items())
    monkeypatch.setattr(cifar, "CIFAR10", cifar.CIFAR10._replace(files=table))


@pytest.fixture
def contents(monkeypatch, tmp_path):
    """Files in CIFAR-10's format with ten training and four test images, whose hashes are taken for the original."""
    first, made = 0, {}
    for name, samples in COUNTS.items():
        made[name] = old_pickle(first, samples)
        first += samples
    know(monkeypatch, made)
    monkeypatch.delenv("REGIMES_DATA_DIR", raising=False)
    monkeypatch.setattr(pooch, "os_cache", lambda name: tmp_path / "cache")
    monkeypatch.setattr(pooch, "retrieve", unreachable)
    return made


@pytest.fixture
def folder(contents, tmp_path):
    folder = tmp_path / "data" / FOLDER
    folder.mkdir(parents=True)
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    return folder


def unreachable(*_, **__):
    raise ConnectionError("no route\nto host")


def packed(contents: dict[str, bytes]) -> bytes:
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w:gz") as archive:
        for name, content in contents.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return target.getvalue()


def in_folder(contents: dict[str, bytes]) -> dict[str, bytes]:
    return {f"{FOLDER}/{name}": content for name, content in contents.items()}


def check(found: images.Images) -> None:
    expected = torch.tensor([[pixel(image, column) for column in range(3072)] for image in range(14)])
    assert found.x_train.dtype == found.x_test.dtype == torch.uint8
    assert torch.equal(found.x_train.long(), expected[:10])
    assert torch.equal(found.x_test.long(), expected[10:])
    assert found.labels_train.tolist() == list(range(10))
    assert found.labels_test.tolist() == [0, 1, 2, 3]
    assert found.labels_train.dtype == torch.int64
    assert found.brightest == 255


def test_the_files_are_found_in_their_folder_or_directly_and_joined_in_order(folder):
    check(cifar.cifar10(folder.parent))
    check(cifar.cifar10(folder))


def test_the_environment_comes_before_the_cache(folder, monkeypatch, tmp_path):
    monkeypatch.setenv("REGIMES_DATA_DIR", str(folder.parent))
    check(cifar.cifar10())
    monkeypatch.delenv("REGIMES_DATA_DIR")
    folder.parent.rename(tmp_path / "cache")
    check(cifar.cifar10())


def test_the_archive_itself_will_do_and_only_known_members_are_read(contents, tmp_path):
    others = {"../outside": b"x", f"{FOLDER}/readme.html": b"x", "elsewhere/data_batch_1": b"another content"}
    (tmp_path / "cifar-10-python.tar.gz").write_bytes(packed(in_folder(contents) | others))
    before = sorted(tmp_path.rglob("*"))
    check(cifar.cifar10(tmp_path))
    assert sorted(tmp_path.rglob("*")) == before  # nothing is written
    assert not (tmp_path.parent / "outside").exists()


def test_a_changed_member_of_an_archive_is_refused(contents, tmp_path):
    changed = in_folder(contents) | {f"{FOLDER}/test_batch": contents["test_batch"][:-20] + b"x" * 20}
    (tmp_path / "cifar-10-python.tar.gz").write_bytes(packed(changed))
    with pytest.raises(ValueError, match="is not the original test_batch: its SHA-256 differs"):
        cifar.cifar10(tmp_path)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda contents: packed(in_folder(contents))[:-1000], "needs to be a whole tar.gz file"),
        (lambda contents: b"plain text", "needs to be a whole tar.gz file"),
        (lambda contents: packed(contents), "needs to hold cifar-10-batches-py/data_batch_1, data_batch_2"),
    ],
)
def test_an_archive_that_is_not_whole_is_refused_in_one_line(contents, tmp_path, damage, message):
    (tmp_path / "cifar-10-python.tar.gz").write_bytes(damage(contents))
    with pytest.raises(ValueError, match=message) as caught:
        cifar.cifar10(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_download_goes_to_the_cache_with_its_hash_and_happens_once(contents, monkeypatch, tmp_path):
    asked = []

    def retrieve(url, known_hash, fname, path):
        asked.append((url, known_hash))
        path.mkdir(parents=True)
        (path / fname).write_bytes(packed(in_folder(contents)))
        return str(path / fname)

    monkeypatch.setattr(pooch, "retrieve", retrieve)
    check(cifar.cifar10())
    check(cifar.cifar10())
    address = "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz"
    assert asked == [(address, "md5:c58f30108f718f92721af3b95e74349a")]
    assert (tmp_path / "cache" / "cifar-10-python.tar.gz").is_file()


def test_a_download_with_another_hash_is_refused(contents, monkeypatch):
    def retrieve(*_, **__):
        raise ValueError("MD5 hash of downloaded file\ndoes not match")

    monkeypatch.setattr(pooch, "retrieve", retrieve)
    with pytest.raises(ValueError, match=r"cifar-10-python\.tar\.gz does not have the MD5") as caught:
        cifar.cifar10()
    assert "\n" not in str(caught.value)


def test_without_files_and_network_one_line_names_files_folders_and_both_ways(contents, tmp_path):
    with pytest.raises(FileNotFoundError, match="no route to host") as caught:
        cifar.cifar10()
    text = str(caught.value)
    needed = [*contents, f"cache/{FOLDER}", "cifar-10-python.tar.gz", "--data-dir", "REGIMES_DATA_DIR"]
    assert [word for word in needed if word not in text] == []
    assert "\n" not in text


def test_a_given_folder_is_the_only_place_searched(folder, monkeypatch, tmp_path):
    monkeypatch.setenv("REGIMES_DATA_DIR", str(folder.parent))
    (folder / "test_batch").rename(folder / "elsewhere")
    with pytest.raises(FileNotFoundError, match=f"not all are in {folder.parent}/{FOLDER}") as caught:
        cifar.cifar10(folder.parent)
    assert "no route" not in str(caught.value)  # no download was tried


@pytest.mark.parametrize("read", [cifar.cifar10, images.mnist])
@pytest.mark.parametrize("named", [True, False])
def test_without_pooch_the_message_still_says_what_to_put_where(contents, monkeypatch, tmp_path, read, named):
    monkeypatch.setitem(sys.modules, "pooch", None)  # importing it fails
    if named:
        monkeypatch.setenv("REGIMES_DATA_DIR", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="A download needs the package pooch") as caught:
        read()
    text = str(caught.value)
    assert "Put them there" in text
    assert (str(tmp_path) in text) == named
    assert "\n" not in text


def test_files_at_hand_are_read_without_pooch(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "pooch", None)
    monkeypatch.setenv("REGIMES_DATA_DIR", str(folder.parent))
    check(cifar.cifar10())


@pytest.mark.parametrize("damage", [lambda content: content[:-5], lambda content: content[:-1] + b"x"])
def test_a_truncated_or_changed_file_is_refused_before_it_is_unpickled(folder, damage, monkeypatch):
    path = folder / "data_batch_2"
    path.write_bytes(damage(path.read_bytes()))
    parsed = []
    monkeypatch.setattr(cifar, "parse", lambda content, name, collection: parsed.append(name))
    with pytest.raises(ValueError, match="its SHA-256 differs") as caught:
        cifar.cifar10(folder)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not any("data_batch_2" in name for name in parsed)


def test_a_malicious_pickle_runs_no_code_even_if_its_hash_were_known(folder, contents, monkeypatch, tmp_path):
    trace = tmp_path / "trace"
    evil = pickle.dumps({b"data": Burglar(trace), b"labels": [0]}, protocol=4)
    (folder / "test_batch").write_bytes(evil)
    with pytest.raises(ValueError, match="its SHA-256 differs"):
        cifar.cifar10(folder)
    know(monkeypatch, contents | {"test_batch": evil})
    with pytest.raises(ValueError, match=r"asks for builtins\.exec") as caught:
        cifar.cifar10(folder)
    assert "\n" not in str(caught.value)
    assert not trace.exists()
    pickle.loads(evil)
    assert trace.exists()  # so the two refusals above did prevent something


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"plain text", "a pickle of byte arrays and lists"),
        (b"", "a pickle of byte arrays and lists"),
        (old_pickle(0, 2)[:-40], "a pickle of byte arrays and lists"),
        (pickle.dumps([1, 2]), "a pickle of byte arrays and lists"),
        (pickle.dumps({b"data": [1]}), "a pickle of byte arrays and lists"),
        (pickle.dumps({b"data": [1], b"labels": ["cat"]}), "a pickle of byte arrays and lists"),
        (old_pickle(0, 2).replace(b"U\x02u1", b"U\x02O8"), "asks for an array of b'O8'"),
        (pickle.dumps(Path("x")), r"asks for pathlib[\w.]*\.PosixPath"),
        (pickle.dumps({b"data": [[1.5] * 3072], b"labels": [1]}), "got float64 of shape"),
        (old_pickle(0, 2, width=1024), r"got uint8 of shape \(2, 1024\) and 2 labels"),
        (old_pickle(0, 2, labels=[1]), r"got uint8 of shape \(2, 3072\) and 1 labels"),
        (old_pickle(0, 2, labels=[0, 10]), r"one label in 0\.\.9"),
    ],
)
def test_a_pickle_of_anything_else_is_refused_in_one_line(content, message):
    with pytest.raises(ValueError, match=message) as caught:
        cifar.parse(content, "made up", cifar.CIFAR10)
    assert "\n" not in str(caught.value)


def at_hand(collection: cifar.Collection) -> bool:
    named = os.environ.get("REGIMES_DATA_DIR")
    return named is not None and files.search(collection.files, collection.folder, [Path(named)]) is not None


@pytest.mark.skipif(not at_hand(cifar.CIFAR10), reason="needs CIFAR-10's files in REGIMES_DATA_DIR")
def test_the_original_cifar10_has_its_published_sizes_and_first_images():
    found = cifar.cifar10(os.environ["REGIMES_DATA_DIR"])
    assert found.x_train.shape == (50_000, 3072)
    assert found.labels_train.bincount().tolist() == [5000] * 10
    assert found.labels_test.bincount().tolist() == [1000] * 10
    assert found.labels_train[:3].tolist() == [6, 9, 9]  # a frog and two lorries
    assert found.labels_test[:3].tolist() == [3, 8, 8]  # a cat and two ships
    first = found.x_train[0].view(3, 32, 32)
    assert first[:, 0, 0].tolist() == [59, 62, 63]  # red, green, blue of the corner
    assert first[:, 31, 31].tolist() == [123, 92, 72]


@pytest.mark.skipif(not at_hand(cifar.CIFAR100), reason="needs CIFAR-100's files in REGIMES_DATA_DIR")
def test_the_original_cifar100_has_its_published_sizes_and_fine_labels():
    found = cifar.cifar100(os.environ["REGIMES_DATA_DIR"])
    assert found.x_train.shape == (50_000, 3072)
    assert found.labels_train.bincount().tolist() == [500] * 100
    assert found.labels_test.bincount().tolist() == [100] * 100
    assert found.labels_train[:3].tolist() == [19, 29, 0]
    assert_close(found.x_train[0].view(3, 32, 32)[:, 0, 0], torch.tensor([255, 255, 255], dtype=torch.uint8))
