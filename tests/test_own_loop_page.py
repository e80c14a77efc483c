"""The loop of docs/own_loop.md, as printed, by one process and by several."""

import re

import pytest
import torch
from documents import blocks
from launch import ROOT, launch

PAGE = ROOT / "docs" / "own_loop.md"
LOOP = next(block.text for block in blocks(PAGE.read_text(encoding="utf-8")) if block.kind == "python")
KEPT = '\ntorch.save([objective.state_dict(), net.state_dict()], "{}/" + os.environ["RANK"] + ".pt")\n'


def test_the_loop_shows_what_it_is_for():
    for word in (
        "accumulate=2",
        "objective.full",
        "after_step()",
        "autocast",
        "GradScaler",
        "checkpoint(",
        "DistributedData",
    ):
        assert word in LOOP, word
    loop = LOOP[LOOP.index("net = Net()") :]
    assert len(loop.splitlines()) <= 30


@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, 2])
def test_the_loop_runs_by_one_process_and_by_two_with_one_multiplier(processes, tmp_path):
    file = tmp_path / "loop.py"
    file.write_text(LOOP + KEPT.format(tmp_path))
    ended = launch(processes, "-W", "error", str(file), CUDA_VISIBLE_DEVICES="")
    assert [process.code for process in ended] == [0] * processes, ended
    kept = [torch.load(tmp_path / f"{rank}.pt") for rank in range(processes)]
    for objective, weights in kept:
        assert objective["multiplier"] == kept[0][0]["multiplier"] > 1
        assert objective["count"] == 3 * (96 // 12 // 2 // processes)
        assert all(torch.equal(weights[name], kept[0][1][name]) for name in weights)
    risks = [float(risk) for risk in re.findall(r"risk ([\d.]+)", ended[0].out)]
    assert len(risks) == 3
    assert all(0 < float(share) < 100 for share in re.findall(r"penalty ([\d.]+)%", ended[0].out))
