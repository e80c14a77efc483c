"""Files held by their hashes: one that is not there is named, with the checkpoints that a folder holds."""

import hashlib

import pytest

from regimes.jobs.diagnose import given_files
from regimes.lab.hashed import hashed


@pytest.fixture
def run(tmp_path):
    """A folder with checkpoints."""
    for name in ("best.pt", "last.pt"):
        (tmp_path / name).write_text(name)
    return tmp_path


def test_a_file_has_the_hash_of_its_content(run):
    assert hashed(run / "last.pt").sha256 == hashlib.sha256(b"last.pt").hexdigest()


def test_checkpoints_are_a_hint_where_one_is_asked_for_and_nowhere_else(run):
    with pytest.raises(FileNotFoundError, match=r"is a folder; give a last\.pt or best\.pt .*: .*/best\.pt"):
        hashed(run)
    with pytest.raises(FileNotFoundError, match=r"is a folder; give the weights before the training: .*/best\.pt"):
        given_files(run / "last.pt", run, None)
    with pytest.raises(FileNotFoundError, match=r"is a folder; give a \.pt or \.safetensors file") as error:
        given_files(run / "last.pt", None, run)
    assert "best.pt" not in str(error.value)
