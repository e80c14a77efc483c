import pytest
import torch

from regimes.meanfield.layout import equal_members, is_short, tile_runs, tiles


@pytest.mark.parametrize("members", [[45], [9] * 5, [1] * 200, [3, 3, 1, 0, 2, 2, 2, 7], [1], [0, 4]])
@pytest.mark.parametrize("at_most", [1, 2, 4, 6, 1000])
def test_tiles_cover_every_run_once_and_know_its_group(members, at_most):
    owner = [group for group, size in enumerate(members) for _ in range(size)]
    seen = []
    for tile in tiles(members, at_most):
        runs = list(range(*tile.runs.indices(len(owner))))
        groups = list(range(*tile.groups.indices(len(members))))
        assert len(runs) <= at_most
        assert [owner[run] for run in runs] == [group for group in groups for _ in range(tile.members)]
        seen += runs
    assert seen == list(range(len(owner)))


def test_small_groups_share_a_tile_and_large_ones_are_cut_evenly():
    assert len(list(tiles([2] * 10, 10))) == 2
    assert [tile.members for tile in tiles([10], 4)] == [3, 3, 4]


def test_a_tile_fits_its_budget_or_holds_one_run(monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    single, double = (torch.zeros(1, 2**10, 100, dtype=dtype) for dtype in (torch.float32, torch.float64))
    assert tile_runs(10**6, 2**14, single) == 2 * tile_runs(10**6, 2**14, double) > 1
    assert tile_runs(10**6, 10**9, double) == 1
    assert tile_runs(10**6, 2**14, double.to("meta")) > 100 * tile_runs(10**6, 2**14, double)


def test_long_passes_have_a_tile_for_each_thread_and_short_ones_are_whole(monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 4)
    x = torch.zeros(1, 100, 10)
    assert is_short(30, 1000, x)
    assert tile_runs(30, 1000, x) == 30
    assert not is_short(30, 100_000, x)
    assert tile_runs(30, 100_000, x) == 8


def test_equal_groups_need_a_multiple_of_runs():
    assert equal_members(3, 6) == [2, 2, 2]
    with pytest.raises(ValueError, match="7 runs for 3 groups"):
        equal_members(3, 7)
