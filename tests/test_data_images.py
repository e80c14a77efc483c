import gzip
import hashlib
import os
import struct

import pooch
import pytest
import torch
from torch.testing import assert_close

from regimes.conventions import generator
from regimes.data import files, images
from regimes.data.catalogue import NAMES, dataset
from regimes.data.files import File


def idx(array: torch.Tensor) -> bytes:
    head = struct.pack(">BBBB", 0, 0, 8, array.dim()) + struct.pack(f">{array.dim()}I", *array.shape)
    return gzip.compress(head + bytes(array.flatten().tolist()))


@pytest.fixture
def small_mnist(tmp_path, monkeypatch):
    """A folder with files in MNIST's format, 30 training and 20 test images of 2 × 3 pixels, and their hashes."""
    contents = []
    for samples in (30, 20):
        labels = torch.arange(samples) % 10
        pixels = labels[:, None, None] * 10 + torch.arange(6).reshape(2, 3) + 1
        contents += [idx(pixels), idx(labels)]
    table = tuple(
        File(file.name, hashlib.sha256(content).hexdigest(), hashlib.sha256(gzip.decompress(content)).hexdigest())
        for file, content in zip(files.MNIST, contents, strict=True)
    )
    monkeypatch.setattr(files, "MNIST", table)
    monkeypatch.delenv("REGIMES_DATA_DIR", raising=False)
    monkeypatch.setattr(pooch, "os_cache", lambda name: tmp_path / "cache")
    folder = tmp_path / "data" / "MNIST" / "raw"
    folder.mkdir(parents=True)
    for file, content in zip(table, contents, strict=True):
        (folder / file.name).write_bytes(content)
    return folder


def unreachable(*_, **__):
    raise ConnectionError("no route\nto host")


def test_a_file_of_the_format_is_read_back():
    array = torch.arange(24, dtype=torch.uint8).reshape(2, 3, 4)
    assert torch.equal(files.parse(idx(array), "made up"), array)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"plain text", "whole gzip file"),
        (idx(torch.arange(24))[:-12], "whole gzip file"),
        (gzip.compress(b"\x00\x00\x0d\x01" + b"\x00" * 8), "magic number"),
        (gzip.compress(b"\x00"), "magic number"),
        (gzip.compress(struct.pack(">BBBBI", 0, 0, 8, 1, 9) + b"short"), "as many bytes as its header says"),
        (gzip.compress(b"\x00\x00\x08\x03\x00"), "as many bytes as its header says"),
    ],
    ids=["text", "cut off", "another type", "one byte", "too short", "no sizes"],  # packed bytes hold the time of day
)
def test_bytes_that_are_no_such_file_are_refused_in_one_line(content, message):
    with pytest.raises(ValueError, match=message) as caught:
        files.parse(content, "made up")
    assert "\n" not in str(caught.value)


def test_mnist_is_found_in_the_raw_folder_or_directly(small_mnist):
    for place in (small_mnist.parents[1], small_mnist):
        found = images.mnist(place)
        assert found.x_train.shape == (30, 6)
        assert found.x_test.shape == (20, 6)
        assert found.labels_train.tolist() == list(range(10)) * 3
        assert found.x_train[13].tolist() == [31, 32, 33, 34, 35, 36]


def test_the_environment_comes_before_the_cache_and_a_given_folder_before_both(small_mnist, monkeypatch, tmp_path):
    monkeypatch.setattr(pooch, "retrieve", unreachable)
    monkeypatch.setenv("REGIMES_DATA_DIR", str(small_mnist.parents[1]))
    assert len(images.mnist().x_train) == 30
    with pytest.raises(FileNotFoundError, match="elsewhere/MNIST/raw"):
        images.mnist(tmp_path / "elsewhere")
    monkeypatch.delenv("REGIMES_DATA_DIR")
    small_mnist.parents[1].rename(tmp_path / "cache")
    assert len(images.mnist().x_train) == 30


def test_without_files_and_network_the_message_names_files_and_folder_in_one_line(small_mnist, monkeypatch, tmp_path):
    monkeypatch.setattr(pooch, "retrieve", unreachable)
    with pytest.raises(FileNotFoundError, match="cache/MNIST/raw") as caught:
        images.mnist()
    text = str(caught.value)
    assert all(file.name in text for file in files.MNIST)
    assert "no route to host" in text
    assert "\n" not in text


def test_a_download_goes_to_the_cache_with_its_hash(small_mnist, monkeypatch, tmp_path):
    asked = []

    def retrieve(url, known_hash, fname, path):
        asked.append((url, known_hash))
        path.mkdir(parents=True, exist_ok=True)
        return str((path / fname).write_bytes((small_mnist / fname).read_bytes()) and path / fname)

    monkeypatch.setattr(pooch, "retrieve", retrieve)
    assert len(images.mnist().x_test) == 20
    assert asked == [(files.MIRROR + file.name, f"sha256:{file.sha256}") for file in files.MNIST]
    assert (tmp_path / "cache" / "MNIST" / "raw" / files.MNIST[0].name).is_file()


def test_a_download_with_another_hash_is_refused(small_mnist, monkeypatch):
    def retrieve(*_, **__):
        raise ValueError("SHA256 hash of downloaded file\ndoes not match")

    monkeypatch.setattr(pooch, "retrieve", retrieve)
    with pytest.raises(ValueError, match=r"train-images.* does not have the SHA-256") as caught:
        images.mnist()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("damage", [lambda content: content[:-5], lambda content: content[:-1] + b"x"])
def test_a_truncated_or_changed_file_is_refused_before_it_is_parsed(small_mnist, damage, monkeypatch):
    path = small_mnist / files.MNIST[2].name
    path.write_bytes(damage(path.read_bytes()))
    parsed = []
    monkeypatch.setattr(files, "parse", lambda content, name: parsed.append(name) or torch.zeros(1, 1))
    with pytest.raises(ValueError, match="its SHA-256 differs") as caught:
        images.mnist(small_mnist)
    assert str(path) in str(caught.value)
    assert not any(files.MNIST[2].name in name for name in parsed)


@pytest.mark.parametrize("name", ["train-images-idx3-ubyte", "train-images.idx3-ubyte", "train-images-idx3-ubyte.gz"])
@pytest.mark.parametrize("packed", [True, False])
def test_files_may_be_unpacked_or_packed_anew(small_mnist, name, packed):
    truth = images.mnist(small_mnist)
    original = small_mnist / files.MNIST[0].name
    held = gzip.decompress(original.read_bytes())
    original.unlink()
    (small_mnist / name).write_bytes(gzip.compress(held, 1, mtime=7) if packed else held)
    assert torch.equal(images.mnist(small_mnist).x_train, truth.x_train)


WRONG = {
    "another image": lambda held: held[:-1] + b"x",
    "truncated": lambda held: held[:-5],
    "empty": lambda held: b"",
    "another magic number": lambda held: b"\x00\x00\x0d\x03" + held[4:],
    "packed and cut off": lambda held: gzip.compress(held)[:-5],
    "packed too large": lambda held: gzip.compress(bytes(100)),
    "packed twice": lambda held: gzip.compress(gzip.compress(held)),
    "a web page": lambda held: b"<html>404</html>",
}


@pytest.mark.parametrize("how", WRONG)
@pytest.mark.parametrize("name", ["train-labels-idx1-ubyte", "train-labels-idx1-ubyte.gz"])
def test_an_unpacked_file_that_is_not_the_original_is_refused(small_mnist, how, name):
    original = small_mnist / files.MNIST[1].name
    content = WRONG[how](gzip.decompress(original.read_bytes()))
    original.unlink()
    (small_mnist / name).write_bytes(content)
    with pytest.raises(ValueError, match=f"{name} is not the original") as caught:
        images.mnist(small_mnist)
    assert "\n" not in str(caught.value)


def test_no_more_is_unpacked_than_a_file_can_hold(small_mnist, monkeypatch):
    monkeypatch.setattr(files, "MOST", 20)
    path = small_mnist / files.MNIST[0].name
    path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes()), 1, mtime=7))
    with pytest.raises(ValueError, match="is not the original"):
        images.mnist(small_mnist)


def test_a_folder_of_data_that_is_a_file_or_cannot_be_read_is_told(small_mnist, monkeypatch):
    file = small_mnist / files.MNIST[0].name
    with pytest.raises(ValueError, match="is a file; give the folder"):
        images.mnist(file)
    monkeypatch.setenv("REGIMES_DATA_DIR", str(file))
    with pytest.raises(ValueError, match="is a file; give the folder"):
        images.mnist()

    def closed(path, *_):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(type(file), "read_bytes", closed)
    with pytest.raises(PermissionError, match=r"cannot read .*make it readable"):
        images.mnist(small_mnist)
    monkeypatch.setattr(type(file), "is_file", closed)
    with pytest.raises(PermissionError, match=r"cannot read .*make it readable"):
        files.search(files.MNIST, files.RAW, [small_mnist])


def test_a_folder_below_the_home_folder_is_found(small_mnist, monkeypatch):
    monkeypatch.setenv("HOME", str(small_mnist.parents[2]))
    assert len(images.mnist("~/data").x_train) == 30
    monkeypatch.setenv("REGIMES_DATA_DIR", "~/data")
    assert len(images.mnist().x_train) == 30
    with pytest.raises(ValueError, match="home folder"):
        images.mnist("~nobody-of-this-name/data")


def test_digits_are_the_1797_images_of_scikit_learn():
    digits = images.digits()
    assert digits.x_train.shape == (1797, 64)
    assert int(digits.x_train.max()) == digits.brightest == 16
    assert digits.labels_train.bincount().tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]


def test_training_and_test_samples_of_one_pool_are_disjoint_and_cover_it():
    digits = images.digits()
    tagged = digits._replace(x_train=torch.arange(1797)[:, None].expand(-1, 2).contiguous().to(torch.uint8))
    numbered = tagged._replace(x_train=torch.stack([torch.arange(1797) // 256, torch.arange(1797) % 256], 1).byte())
    data = images.split(numbered, 1000, 797, generator=generator(0), scaling=images.unit_interval)
    tags = torch.cat([data.x_train, data.x_test]).mul(16).round().long() @ torch.tensor([256, 1])
    assert tags.sort().values.tolist() == list(range(1797))


def test_two_chosen_classes_become_minus_and_plus_one_in_their_order():
    digits = images.digits()
    mirrored = digits._replace(x_train=digits.labels_train[:, None].byte() + 1)
    data = images.split(mirrored, 100, 50, generator=generator(1), classes=(8, 3), scaling=images.unit_interval)
    labels = (data.x_train * 16 - 1).round()
    assert_close(data.y_train, torch.where(labels == 8, -1.0, 1.0).double())
    assert set(labels.flatten().tolist()) == {3.0, 8.0}
    assert data.classes == 2


def test_ten_classes_become_one_hot_rows_of_the_right_class():
    digits = images.digits()
    mirrored = digits._replace(x_train=digits.labels_train[:, None].byte() + 1)
    data = images.split(mirrored, 100, 50, generator=generator(2), scaling=images.unit_interval)
    assert_close(data.y_test.argmax(1), (data.x_test[:, 0] * 16 - 1).round().long())
    assert_close(data.y_test.sum(1), torch.ones(50).double())


def test_balanced_choice_has_equal_counts_and_the_uniform_one_has_not():
    labels = images.digits().labels_train
    equal = labels[images.balanced(labels, 102, generator=generator(3))].bincount(minlength=10)
    assert equal.tolist() == [11, 11] + [10] * 8
    chosen = images.uniform(labels, 100, generator=generator(3))
    assert len(chosen.unique()) == 100
    assert labels[chosen].bincount(minlength=10).unique().numel() > 1
    with pytest.raises(ValueError, match="needs 179 samples of class 0; got 178"):
        images.balanced(labels, 1790, generator=generator(0))
    with pytest.raises(ValueError, match="uniform needs 10 samples; got 3"):
        images.uniform(labels[:3], 10, generator=generator(0))


def test_scalings_do_what_their_names_say():
    x = torch.rand(40, 6, generator=generator(4)).double()
    test = torch.rand(10, 6, generator=generator(5)).double()
    one, other = images.unit_norm(x, test)
    assert_close(one.norm(dim=1), torch.ones(40).double())
    assert_close(other.norm(dim=1), torch.ones(10).double())
    one, other = images.standardised(x, test)
    assert_close(one.mean(), torch.tensor(0.0).double())
    assert_close(one.std(), torch.tensor(1.0).double())
    assert_close(other * x.std() + x.mean(), test)  # the test part uses the training part's numbers
    assert images.unit_interval(x, test) == (x, test)


def test_official_test_samples_stay_apart(small_mnist):
    source = images.mnist(small_mnist)
    marked = source._replace(x_train=torch.full_like(source.x_train, 1), x_test=torch.full_like(source.x_test, 255))
    data = images.split(marked, 30, 20, generator=generator(6), scaling=images.unit_interval)
    assert_close(data.x_train.max(), torch.tensor(1 / 255).double())
    assert_close(data.x_test.min(), torch.tensor(1.0).double())


@pytest.mark.parametrize("classes", [(3,), (3, 3), (3, 12), ()])
def test_impossible_classes_are_refused(classes):
    with pytest.raises(ValueError, match="at least two different classes out of 0, 1, 2"):
        images.split(images.digits(), 10, 10, generator=generator(0), classes=classes)


@pytest.mark.parametrize(("train", "test"), [(0, 5), (5, 0), (1700, 500)])
def test_impossible_sizes_are_refused(train, test):
    with pytest.raises(ValueError, match="1797 together samples of these classes"):
        images.split(images.digits(), train, test, generator=generator(0))


def test_more_samples_than_the_official_parts_hold_are_refused(small_mnist):
    with pytest.raises(ValueError, match="has 30 and 20 samples"):
        images.split(images.mnist(small_mnist), 30, 21, generator=generator(0))


def test_every_name_gives_disjoint_data_of_the_documented_form(small_mnist):
    for name in NAMES:
        data = dataset(name, train=12, test=8, seed=1, data_dir=small_mnist)
        assert data.name == name
        assert data.x_train.shape[0] == data.y_train.shape[0] == 12
        assert data.x_test.shape[0] == data.y_test.shape[0] == 8
        assert data.y_train.shape[1] == (1 if data.classes is None else 10)
        assert (data.teacher is None) == (data.classes is not None)
        assert data.x_train.dtype == data.y_test.dtype == torch.float64
        assert_close(data.x_train.norm(dim=1), torch.ones(12).double())


def test_the_same_seed_gives_the_same_data_and_another_seed_others():
    assert torch.equal(dataset("teacher", seed=3).x_train, dataset("teacher", seed=3).x_train)
    assert not torch.equal(dataset("teacher", seed=3).x_train, dataset("teacher", seed=4).x_train)
    given = dataset("circle", seed=generator(7))
    assert torch.equal(given.x_train, dataset("circle", seed=generator(7)).x_train)


def test_an_unknown_name_lists_the_known_ones_and_regressions_have_no_classes():
    with pytest.raises(ValueError, match="one of teacher, circle, digits, mnist; got 'mnits'"):
        dataset("mnits")
    with pytest.raises(ValueError, match="teacher is a regression and has no classes"):
        dataset("teacher", classes=(0, 1))


@pytest.mark.skipif("REGIMES_DATA_DIR" not in os.environ, reason="needs MNIST's files in REGIMES_DATA_DIR")
def test_the_original_mnist_has_its_published_sizes_and_counts():
    mnist = images.mnist(os.environ["REGIMES_DATA_DIR"])
    assert mnist.x_train.shape == (60_000, 784)
    assert mnist.labels_train.bincount().tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert mnist.labels_test.bincount().tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert_close(mnist.x_train.double().mean() / 255, torch.tensor(0.1307).double(), atol=5e-5, rtol=0)  # four digits
