import pytest
import torch

from regimes.meanfield.layout import equal_members, tile_runs, tiles


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


def test_a_tile_fits_its_budget_or_holds_one_run():
    cpu = torch.device("cpu")
    assert tile_runs(2**14, torch.float32, cpu) == 2 * tile_runs(2**14, torch.float64, cpu) > 1
    assert tile_runs(10**9, torch.float64, cpu) == 1
    assert tile_runs(50_000, torch.float64, torch.device("cuda")) > 100 * tile_runs(50_000, torch.float64, cpu)


def test_equal_groups_need_a_multiple_of_runs():
    assert equal_members(3, 6) == [2, 2, 2]
    with pytest.raises(ValueError, match="7 runs for 3 groups"):
        equal_members(3, 7)
