"""The record of the benchmark of tangent kernels outlives a kill."""

from benchmarks.empirical_ntk import Record


def test_turns_are_found_again_after_a_line_that_was_cut_off(tmp_path):
    path = tmp_path / "record.jsonl"
    Record(path).add(net="mlp", samples=3)
    for cut in ('{"net": "ml', '{"own": {"process": 1.0}'):
        with path.open("a") as file:
            file.write(cut)
        Record(path).add(net="mlp", samples=4)
    assert [turn["samples"] for turn in Record(path).of(net="mlp")] == [3, 4, 4]
