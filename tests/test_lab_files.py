"""Files are whole at any moment, under one name or two; one that cannot be read is not called damaged."""

import builtins
import errno
import io
import os
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch

from regimes.data import cifar
from regimes.errors import UserError
from regimes.jobs import lazy_vs_meanfield, ot_gap
from regimes.lab.array_files import read_arrays
from regimes.lab.files import link_whole, write_whole
from regimes.lab.tensor_files import read_tensors, write_tensors


@pytest.mark.parametrize("links", [True, False])
def test_a_second_name_outlives_the_first_ones_next_content(tmp_path, monkeypatch, links):
    if not links:

        def refuse(*paths):
            raise PermissionError("no links here")

        monkeypatch.setattr(os, "link", refuse)
    one, other = tmp_path / "one", tmp_path / "other"
    write_whole(other, "old")
    for content in ("first", "second"):
        write_whole(one, content)
        link_whole(one, other)
        assert other.read_text() == content
    write_whole(one, "third")
    assert other.read_text() == "second"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one", "other"]


def test_a_second_name_that_cannot_be_given_is_told(tmp_path):
    write_whole(tmp_path / "one", "content")
    with pytest.raises(OSError, match=r"cannot write .*nowhere"):
        link_whole(tmp_path / "one", tmp_path / "nowhere" / "other")


def closed(monkeypatch, path: Path, error: OSError, opening: int = 1) -> None:
    """Refuse one opening of a file, as the system would; others succeed."""
    count = [0]
    for module in (io, builtins):

        def refusing(file, *arguments, usual=module.open, **more):
            if isinstance(file, str | Path) and Path(file) == path:
                count[0] += 1
                if count[0] == opening:
                    raise error
            return usual(file, *arguments, **more)

        monkeypatch.setattr(module, "open", refusing)


READERS = {
    "tensors": lambda path: read_tensors(path, "advice"),
    "arrays": read_arrays,
    "ot-gap": ot_gap._read,
    "lazy-vs-meanfield": lazy_vs_meanfield._read,
    "archive": lambda path: cifar.unpack(path, cifar.CIFAR10),
}


@pytest.mark.parametrize("error", [PermissionError(errno.EACCES, "Permission denied"), OSError(errno.EIO, "I/O error")])
@pytest.mark.parametrize("opening", [1, 2])
@pytest.mark.parametrize("reader", READERS)
def test_a_good_file_that_cannot_be_read_is_not_called_damaged(tmp_path, monkeypatch, reader, opening, error):
    path = tmp_path / "file"
    if reader == "tensors":
        write_tensors(path, {"x": torch.zeros(3)})
    elif reader == "archive":
        opening = 1  # it is opened once
        with tarfile.open(path, "w:gz"):
            pass
    else:
        with path.open("wb") as file:
            np.savez(file, numbers=np.array("[]"))
    closed(monkeypatch, path, error, opening)
    with pytest.raises(type(error), match=f"cannot read .*file: {error.strerror}; make it readable") as caught:
        READERS[reader](path)
    assert not isinstance(caught.value, UserError)
    assert caught.value.errno == error.errno


@pytest.mark.parametrize("reader", [*READERS][:4])
@pytest.mark.parametrize("cut", [slice(0, -30), slice(20, None), slice(0, 0), slice(0, 40)])
def test_a_file_of_which_a_part_is_missing_is_damaged(tmp_path, reader, cut):
    path = tmp_path / "file"
    with path.open("wb") as file:
        np.savez(file, numbers=np.array("[]"))
    path.write_bytes(path.read_bytes()[cut])
    with pytest.raises(UserError, match=r"damaged|is empty|no checkpoint"):
        READERS[reader](path)


def test_a_table_of_contents_that_points_outside_is_damage(tmp_path):
    path = tmp_path / "file"
    with path.open("wb") as file:
        np.savez(file, x=np.zeros(3))
    content = bytearray(path.read_bytes())
    place = content.rindex(b"PK\x05\x06") + 16
    offset = int.from_bytes(content[place : place + 4], "little")
    content[place : place + 4] = (offset + 1000).to_bytes(4, "little")  # so that the array would begin before the file
    path.write_bytes(content)
    with pytest.raises(UserError, match="damaged"):
        read_arrays(path)


@pytest.mark.parametrize("replace", [lambda file: write_whole(file, "new"), lambda file: link_whole(file, file)])
def test_what_a_killed_process_of_the_same_number_has_left_does_no_harm(tmp_path, replace):
    best, last = tmp_path / "best.pt", tmp_path / "last.pt"
    for file in (best, last):
        write_whole(file, "old")
    os.link(best, tmp_path / f".last.pt.{os.getpid()}.part")  # killed before the second name took its place
    replace(last)
    assert best.read_text() == "old"
    assert sorted(file.name for file in tmp_path.iterdir()) == ["best.pt", "last.pt"]
