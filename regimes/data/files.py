"""Original data files: where they are, whether they are intact; what MNIST's hold."""

import gzip
import hashlib
import math
import os
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from regimes.errors import UserError, one_line
from regimes.paths import home

MIRROR = "https://ossci-datasets.s3.amazonaws.com/mnist/"
RAW = "MNIST/raw"
GZIP = b"\x1f\x8b"  # its magic number
MOST = 2**26  # bytes; more than any of the files holds


class File(NamedTuple):
    """One file of a data set, the SHA-256 of its original bytes, and that of what a gzip file holds."""

    name: str
    sha256: str
    content: str | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """Under which it may lie: as it was published, unpacked, and unpacked as some programs name it."""
        bare = self.name.removesuffix(".gz")
        return tuple(dict.fromkeys((self.name, bare, bare.replace("-idx", ".idx"))))


MNIST = (
    File(
        "train-images-idx3-ubyte.gz",
        "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
        "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    ),
    File(
        "train-labels-idx1-ubyte.gz",
        "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
        "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    ),
    File(
        "t10k-images-idx3-ubyte.gz",
        "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
        "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    ),
    File(
        "t10k-labels-idx1-ubyte.gz",
        "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
        "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
    ),
)


def locate(data_dir: Path | None) -> list[Path]:
    """Paths of the four MNIST files, downloaded into the user's cache if they are nowhere.

    Each may lie in DIR/MNIST/raw or in DIR, for DIR in `places(data_dir)`. Without a cache nothing is downloaded.
    """
    searched = places(data_dir)
    found = search(MNIST, RAW, searched)
    if found is not None:
        return found
    absent = missing("MNIST", MNIST, RAW, searched)
    if data_dir is not None:
        raise absent
    folder = cache(absent) / RAW
    return [download(MIRROR + file.name, f"sha256:{file.sha256}", folder / file.name, absent) for file in MNIST]


def places(data_dir: Path | None) -> list[Path]:
    """Folders that may hold data: data_dir if given (and nowhere else then), otherwise the environment variable
    REGIMES_DATA_DIR, otherwise the user's cache (where pooch, which knows it, is installed)."""
    if data_dir is not None:
        return [_folder(data_dir)]
    named = os.environ.get("REGIMES_DATA_DIR")
    try:
        known = [cache(FileNotFoundError())]
    except FileNotFoundError:
        known = []
    return [*([_folder(named)] if named else []), *known]


def _folder(path: Path | str) -> Path:
    """The folder of that name, ~ the home folder; UserError if it is a file."""
    folder = home(path)
    if folder.is_file():
        raise UserError(f"{folder} is a file; give the folder with the data files by --data-dir or REGIMES_DATA_DIR")
    return folder


def search(wanted: Sequence[File], folder: str, searched: Sequence[Path]) -> list[Path] | None:
    """Paths of all wanted files in the first DIR/folder or DIR that holds every one of them."""
    for place in searched:
        for parent in (place / folder, place):
            found = [_lies(parent, file) for file in wanted]
            if None not in found:
                return [path for path in found if path is not None]
    return None


def _lies(folder: Path, file: File) -> Path | None:
    """The file in the folder, packed or not; None if it is not there."""
    try:
        return next((folder / name for name in file.names if (folder / name).is_file()), None)
    except OSError as error:
        raise unreadable(folder, error) from None


def bytes_of(path: Path) -> bytes:
    """The content of a file; OSError in one line that says which and why."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise unreadable(path, error) from None


def unreadable(path: Path, error: OSError) -> OSError:
    """The error in one line, to be raised: which file and why."""
    reason = f"cannot read {path}: {error.strerror or error}; make it readable, or name another folder by --data-dir"
    return type(error)(error.errno, f"{reason} or REGIMES_DATA_DIR")


def missing(
    title: str, wanted: Sequence[File], folder: str, searched: Sequence[Path], *, archive: str | None = None
) -> FileNotFoundError:
    """The one line that says which files to put where."""
    looked = " or ".join(f"{place}/{folder}" for place in searched) or f"DIR/{folder} (no DIR is named)"
    packed = "" if archive is None else f" (or {archive} one folder up)"
    return FileNotFoundError(
        f"{title} needs the files {', '.join(file.name for file in wanted)}; not all are in {looked}. Put them there"
        f"{packed}, or name their folder by --data-dir or REGIMES_DATA_DIR."
    )


def cache(absent: FileNotFoundError) -> Path:
    """The user's folder of downloads; raises `absent` where pooch is not installed."""
    try:
        import pooch
    except ImportError:
        raise FileNotFoundError(f"{absent} A download needs the package pooch.") from None
    return Path(pooch.os_cache("regimes"))


def download(url: str, known_hash: str, target: Path, absent: FileNotFoundError) -> Path:
    """Fetch one file of a known hash, as "sha256:..." or "md5:..."; raises `absent` with the reason of a failure."""
    import pooch

    logger = pooch.get_logger()
    level = logger.level
    logger.setLevel("ERROR")  # the library prints nothing
    try:
        return Path(pooch.retrieve(url, known_hash, fname=target.name, path=target.parent))
    except OSError as error:  # requests' errors are OSErrors
        reason = one_line(error, 120)
        raise FileNotFoundError(f"{absent} The download from {url} failed too: {reason}") from None
    except ValueError:
        kind = {"sha256": "SHA-256", "md5": "MD5"}[known_hash.partition(":")[0]]
        raise UserError(f"{url} does not have the {kind} of the original file. Fetch it by another route.") from None
    finally:
        logger.setLevel(level)


def read(path: Path, file: File) -> Tensor:
    """Content of one MNIST file as a tensor of bytes, its hash checked before anything is parsed.

    Packed anew or not packed at all, it is the original if what it holds has the hash of what that holds.
    """
    content = bytes_of(path)
    if file.content is not None and hashlib.sha256(content).hexdigest() != file.sha256:
        held = _unpacked(content)
        if held is not None and hashlib.sha256(held).hexdigest() == file.content:
            return parse(held, str(path))
    return parse(intact(content, file, str(path)), str(path))


def _unpacked(content: bytes) -> bytes | None:
    """What a gzip file holds, or the bytes themselves; None if it is damaged or holds more than any file here."""
    if content[: len(GZIP)] != GZIP:
        return content
    try:
        unpacker = zlib.decompressobj(wbits=31)
        held = unpacker.decompress(content, MOST)
    except zlib.error:
        return None
    return held if unpacker.eof else None


def intact(content: bytes, file: File, name: str) -> bytes:
    """The same bytes, if they are those of the original file."""
    if hashlib.sha256(content).hexdigest() != file.sha256:
        raise UserError(
            f"{name} is not the original {file.name}: its SHA-256 differs ({len(content)} bytes read), so it is "
            "truncated or changed. Delete it and fetch it again."
        )
    return content


def parse(content: bytes, name: str) -> Tensor:
    """Tensor of the unsigned bytes in an IDX file: magic 0, 0, 8, number of axes, then each axis, then data; gzipped
    or not."""
    try:
        raw = content if content[:2] == b"\x00\x00" else gzip.decompress(content)
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{name} needs to be a whole gzip file; got {error}. Fetch it again.") from None
    if len(raw) < 4 or raw[:3] != b"\x00\x00\x08" or not raw[3]:
        raise UserError(
            f"{name} needs the magic number of an IDX file of bytes (000008nn); got {raw[:4].hex()}. Fetch it again."
        )
    start = 4 + 4 * raw[3]
    shape = struct.unpack(f">{raw[3]}I", raw[4:start]) if len(raw) >= start else None
    if shape is None or len(raw) - start != math.prod(shape):
        raise UserError(f"{name} needs as many bytes as its header says; got {len(raw)} in all. Fetch it again.")
    return torch.frombuffer(bytearray(raw[start:]), dtype=torch.uint8).reshape(shape)
