"""The examples run as they stand: short, with public names alone."""

import subprocess
import sys
from pathlib import Path

import pytest
from launch import environment

EXAMPLES = Path(__file__).parent.parent / "examples"


@pytest.mark.slow
def test_my_resnet_is_trained_resumed_and_asked_whether_its_map_is_optimal(tmp_path):
    script = EXAMPLES / "train_my_resnet.py"
    lines = [line for line in script.read_text(encoding="utf-8").splitlines() if line.strip()]
    assert len(lines) <= 15
    assert not any("regimes." in line and "import" in line for line in lines)  # public names alone
    ended = subprocess.run(
        [sys.executable, str(script)],
        cwd=tmp_path,
        env=environment(MPLBACKEND="Agg"),
        capture_output=True,
        text=True,
        check=True,
    )
    assert "'weights': 'last, epoch 10'" in ended.stdout
    assert any(word in ended.stdout for word in ("optimal", "gradient map", "blind", "undecided"))
    assert (tmp_path / "runs" / "my-resnet" / "result.json").exists()
