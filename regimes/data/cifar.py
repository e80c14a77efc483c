"""CIFAR-10 and CIFAR-100 from their original files, which are pickles: hashes first, then a reader of byte arrays."""

import io
import pickle
import tarfile
import zlib
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from regimes.data import files
from regimes.data.files import File
from regimes.data.images import Images
from regimes.errors import UserError

SITE = "https://www.cs.toronto.edu/~kriz/"
PIXELS = 3 * 32 * 32  # channel by channel (red, green, blue), each row by row


class Collection(NamedTuple):
    """The files of one data set, where the test file is the last; `labels` is the key of the labels in each."""

    name: str
    title: str
    folder: str
    files: tuple[File, ...]
    archive: str
    md5: str
    labels: bytes
    classes: int


CIFAR10 = Collection(
    "cifar10",
    "CIFAR-10",
    "cifar-10-batches-py",
    (
        File("data_batch_1", "54636561a3ce25bd3e19253c6b0d8538147b0ae398331ac4a2d86c6d987368cd"),
        File("data_batch_2", "766b2cef9fbc745cf056b3152224f7cf77163b330ea9a15f9392beb8b89bc5a8"),
        File("data_batch_3", "0f00d98ebfb30b3ec0ad19f9756dc2630b89003e10525f5e148445e82aa6a1f9"),
        File("data_batch_4", "3f7bb240661948b8f4d53e36ec720d8306f5668bd0071dcb4e6c947f78e9682b"),
        File("data_batch_5", "d91802434d8376bbaeeadf58a737e3a1b12ac839077e931237e0dcd43adcb154"),
        File("test_batch", "f53d8d457504f7cff4ea9e021afcf0e0ad8e24a91f3fc42091b8adef61157831"),
    ),
    "cifar-10-python.tar.gz",
    "c58f30108f718f92721af3b95e74349a",
    b"labels",
    10,
)
CIFAR100 = Collection(
    "cifar100",
    "CIFAR-100",
    "cifar-100-python",
    (
        File("train", "735e79b04f092ca3d2e6d07f368c0a7d70d48c48d28865950cc24454cf45129b"),
        File("test", "4b67687d9933c4db8f0831104447f15b93774f4f464bd0516f0f0f2ac83b7864"),
    ),
    "cifar-100-python.tar.gz",
    "eb9058c3a382ffc7106e4002c42a8d85",
    b"fine_labels",
    100,
)


def cifar10(data_dir: Path | str | None = None) -> Images:
    """CIFAR-10: 50,000 training and 10,000 test images, 3 × 32 × 32 bytes, ten classes, hashes checked.

    The files may lie in DIR/cifar-10-batches-py, in DIR, or in the archive DIR/cifar-10-python.tar.gz, for DIR as in
    `files.places`; otherwise the archive is downloaded into the user's cache, unless data_dir is given.
    Raises FileNotFoundError where they cannot be had, ValueError where one is truncated or changed.
    """
    return _images(CIFAR10, data_dir)


def cifar100(data_dir: Path | str | None = None) -> Images:
    """CIFAR-100 with its 100 fine labels; otherwise as `cifar10`, in DIR/cifar-100-python."""
    return _images(CIFAR100, data_dir)


def _images(collection: Collection, data_dir: Path | str | None) -> Images:
    parts = [
        parse(files.intact(content, file, name), name, collection)
        for file, (name, content) in zip(
            collection.files, _contents(collection, None if data_dir is None else Path(data_dir)), strict=True
        )
    ]
    x, labels = (torch.cat(tensors) for tensors in zip(*parts[:-1], strict=True))
    return Images(collection.name, x, labels, *parts[-1], brightest=255)


def _contents(collection: Collection, data_dir: Path | None) -> list[tuple[str, bytes]]:
    """Name and content of each file, wherever it was found."""
    searched = files.places(data_dir)
    found = files.search(collection.files, collection.folder, searched)
    if found is not None:
        return [(str(path), files.bytes_of(path)) for path in found]
    for place in searched:
        if (place / collection.archive).is_file():
            return unpack(place / collection.archive, collection)
    absent = files.missing(collection.title, collection.files, collection.folder, searched, archive=collection.archive)
    if data_dir is not None:
        raise absent
    target = files.cache(absent) / collection.archive
    archive = files.download(SITE + collection.archive, f"md5:{collection.md5}", target, absent)
    return unpack(archive, collection)


def unpack(archive: Path, collection: Collection) -> list[tuple[str, bytes]]:
    """Name and content of the known files in an archive, in the table's order; nothing is written anywhere."""
    contents: dict[str, bytes] = {}
    try:
        with tarfile.open(archive, "r:gz") as opened:
            for member in opened:  # one pass: a gzip file cannot be read backwards
                stream = opened.extractfile(member) if member.isfile() else None
                if stream is not None and member.name in {f"{collection.folder}/{f.name}" for f in collection.files}:
                    contents[member.name.rpartition("/")[2]] = stream.read()
    except (tarfile.TarError, OSError, EOFError, zlib.error) as error:
        if isinstance(error, OSError) and error.errno is not None:  # the system's, not gzip's
            raise files.unreadable(archive, error) from None
        raise UserError(f"{archive} needs to be a whole tar.gz file; got {error}. Fetch it again.") from None
    lacking = [file.name for file in collection.files if file.name not in contents]
    if lacking:
        raise UserError(f"{archive} needs to hold {collection.folder}/{', '.join(lacking)}. Fetch it again.")
    return [(f"{archive}:{file.name}", contents[file.name]) for file in collection.files]


class _ByteArrays(pickle.Unpickler):
    """Reads builtin containers and arrays of bytes; any other name in the pickle is refused, so no code can run."""

    def find_class(self, module_name: str, global_name: str, /) -> Any:
        """What a pickled array of bytes is made with."""
        rebuild = np.empty(0).__reduce__()[0]  # the public way to a function that moved between versions of numpy
        known = {
            ("numpy.core.multiarray", "_reconstruct"): rebuild,
            ("numpy._core.multiarray", "_reconstruct"): rebuild,
            ("numpy", "ndarray"): np.ndarray,
            ("numpy", "dtype"): _byte,
        }
        if (module_name, global_name) not in known:
            raise pickle.UnpicklingError(f"one that asks for {module_name}.{global_name}")
        return known[module_name, global_name]


def _byte(code: str | bytes, *_: object) -> np.dtype:
    if code not in ("u1", b"u1"):
        raise pickle.UnpicklingError(f"one that asks for an array of {code!r}")
    return np.dtype("u1")


def parse(content: bytes, name: str, collection: Collection) -> tuple[Tensor, Tensor]:
    """Images (n, 3072) as bytes and their labels (n,) from one pickle."""
    try:
        held = _ByteArrays(io.BytesIO(content), encoding="bytes").load()
        x, labels = np.asarray(held[b"data"]), torch.tensor(held[collection.labels], dtype=torch.int64)
    except (pickle.UnpicklingError, ArithmeticError, EOFError, LookupError, TypeError, ValueError) as error:
        raise UserError(f"{name} needs to be a pickle of byte arrays and lists; got {error}. Fetch it again.") from None
    right = x.dtype == np.uint8 and x.shape == (len(labels), PIXELS) and labels.dim() == 1 and len(labels) > 0
    if not right or int(labels.min()) < 0 or int(labels.max()) >= collection.classes:
        raise UserError(
            f"{name} needs one row of {PIXELS} bytes and one label in 0..{collection.classes - 1} an image; "
            f"got {x.dtype} of shape {x.shape} and {len(labels)} labels. Fetch it again."
        )
    return torch.tensor(x), labels
