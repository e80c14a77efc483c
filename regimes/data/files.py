"""The original MNIST files: where they are, whether they are intact, what they hold."""

import gzip
import hashlib
import math
import os
import struct
import zlib
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

MIRROR = "https://ossci-datasets.s3.amazonaws.com/mnist/"


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

    Each may lie in DIR/MNIST/raw or in DIR. DIR is data_dir if given (and nowhere else then), otherwise the
    environment variable REGIMES_DATA_DIR, otherwise the user's cache.
    """
    import pooch

    if data_dir is not None:
        places = [Path(data_dir)]
    else:
        named = os.environ.get("REGIMES_DATA_DIR")
        places = [*([Path(named)] if named else []), Path(pooch.os_cache("regimes"))]
    for place in places:
        for folder in (place / "MNIST" / "raw", place):
            found = [folder / file.name for file in MNIST]
            if all(path.is_file() for path in found):
                return found
    missing = FileNotFoundError(
        f"MNIST needs the files {', '.join(file.name for file in MNIST)}; not all are in "
        f"{' or '.join(f'{place}/MNIST/raw' for place in places)}. Put them there, or name their folder by "
        "--data-dir or REGIMES_DATA_DIR."
    )
    if data_dir is not None:
        raise missing
    return [_download(file, places[-1] / "MNIST" / "raw", missing) for file in MNIST]


def _download(file: File, folder: Path, missing: FileNotFoundError) -> Path:
    import pooch

    logger = pooch.get_logger()
    level = logger.level
    logger.setLevel("ERROR")  # the library prints nothing
    try:
        return Path(pooch.retrieve(MIRROR + file.name, f"sha256:{file.sha256}", fname=file.name, path=folder))
    except OSError as error:  # requests' errors are OSErrors
        reason = " ".join(str(error).split())[:120]
        raise FileNotFoundError(f"{missing} The download from {MIRROR} failed too: {reason}") from None
    except ValueError:
        raise ValueError(
            f"{MIRROR}{file.name} does not have the SHA-256 of the original file. Fetch it by another route."
        ) from None
    finally:
        logger.setLevel(level)


def read(path: Path, file: File) -> Tensor:
    """Content of one file as a tensor of bytes, its hash checked before anything is parsed."""
    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != file.sha256:
        raise ValueError(
            f"{path} is not the original {file.name}: its SHA-256 differs ({len(content)} bytes read), so it is "
            "truncated or changed. Delete it and fetch it again."
        )
    return parse(content, str(path))


def parse(content: bytes, name: str) -> Tensor:
    """Tensor of the unsigned bytes in a gzipped IDX file: magic 0, 0, 8, number of axes, then each axis, then data."""
    try:
        raw = gzip.decompress(content)
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"{name} needs to be a whole gzip file; got {error}. Fetch it again.") from None
    if len(raw) < 4 or raw[:3] != b"\x00\x00\x08" or not raw[3]:
        raise ValueError(
            f"{name} needs the magic number of an IDX file of bytes (000008nn); got {raw[:4].hex()}. Fetch it again."
        )
    start = 4 + 4 * raw[3]
    shape = struct.unpack(f">{raw[3]}I", raw[4:start]) if len(raw) >= start else None
    if shape is None or len(raw) - start != math.prod(shape):
        raise ValueError(f"{name} needs as many bytes as its header says; got {len(raw)} in all. Fetch it again.")
    return torch.frombuffer(bytearray(raw[start:]), dtype=torch.uint8).reshape(shape)
