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

from regimes.errors import UserError

MIRROR = "https://ossci-datasets.s3.amazonaws.com/mnist/"
RAW = "MNIST/raw"


class File(NamedTuple):
    """One file of a data set and the SHA-256 of its original bytes."""

    name: str
    sha256: str


MNIST = (
    File("train-images-idx3-ubyte.gz", "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609"),
    File("train-labels-idx1-ubyte.gz", "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c"),
    File("t10k-images-idx3-ubyte.gz", "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6"),
    File("t10k-labels-idx1-ubyte.gz", "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6"),
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
        return [data_dir]
    named = os.environ.get("REGIMES_DATA_DIR")
    try:
        known = [cache(FileNotFoundError())]
    except FileNotFoundError:
        known = []
    return [*([Path(named)] if named else []), *known]


def search(wanted: Sequence[File], folder: str, searched: Sequence[Path]) -> list[Path] | None:
    """Paths of all wanted files in the first DIR/folder or DIR that holds every one of them."""
    for place in searched:
        for parent in (place / folder, place):
            found = [parent / file.name for file in wanted]
            if all(path.is_file() for path in found):
                return found
    return None


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
        reason = " ".join(str(error).split())[:120]
        raise FileNotFoundError(f"{absent} The download from {url} failed too: {reason}") from None
    except ValueError:
        kind = {"sha256": "SHA-256", "md5": "MD5"}[known_hash.partition(":")[0]]
        raise UserError(f"{url} does not have the {kind} of the original file. Fetch it by another route.") from None
    finally:
        logger.setLevel(level)


def read(path: Path, file: File) -> Tensor:
    """Content of one MNIST file as a tensor of bytes, its hash checked before anything is parsed."""
    return parse(intact(path.read_bytes(), file, str(path)), str(path))


def intact(content: bytes, file: File, name: str) -> bytes:
    """The same bytes, if they are those of the original file."""
    if hashlib.sha256(content).hexdigest() != file.sha256:
        raise UserError(
            f"{name} is not the original {file.name}: its SHA-256 differs ({len(content)} bytes read), so it is "
            "truncated or changed. Delete it and fetch it again."
        )
    return content


def parse(content: bytes, name: str) -> Tensor:
    """Tensor of the unsigned bytes in a gzipped IDX file: magic 0, 0, 8, number of axes, then each axis, then data."""
    try:
        raw = gzip.decompress(content)
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
