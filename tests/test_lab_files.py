"""Files are whole at any moment, under one name or two."""

import os

import pytest

from regimes.lab.files import link_whole, write_whole


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
