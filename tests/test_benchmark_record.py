"""The record of the kernel benchmark: turns of unlike conditions are not taken for one measurement."""

import pytest

from benchmarks.empirical_ntk import Record


@pytest.mark.parametrize("other", ["threads", "torch", "commit"])
def test_turns_under_other_conditions_do_not_count(tmp_path, other):
    before = Record(tmp_path / "turns.jsonl")
    before.add(net="mlp")
    before.by[other] = "another"
    before.add(net="mlp")
    assert len(Record(tmp_path / "turns.jsonl").of(net="mlp")) == 1
