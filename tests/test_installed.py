"""The wheel: what a user has who installs regimes without a clone."""

import os
import subprocess
import sys
import venv
from pathlib import Path

import pytest

from regimes.experiments import names

ROOT = Path(__file__).parent.parent


@pytest.mark.slow
def test_the_installed_command_finds_configurations_and_results_from_any_folder(tmp_path):
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    wheels, folder, environment = (tmp_path / name for name in ("wheels", "elsewhere", "environment"))
    folder.mkdir()
    options = ["--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", str(wheels)]
    source = tmp_path / "source"
    files = subprocess.run(
        ["git", "-C", str(ROOT), "ls-files", "-co", "--exclude-standard"], capture_output=True, text=True, check=True
    ).stdout
    for name in files.splitlines():  # a copy, because building writes into the source
        if (ROOT / name).is_file() and not name.startswith("tests/"):
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes((ROOT / name).read_bytes())
    subprocess.run([*pip, "wheel", *options, str(source)], check=True)
    venv.create(environment, with_pip=False)
    (packages,) = environment.glob("lib/python*/site-packages")
    (wheel,) = wheels.glob("*.whl")
    subprocess.run(
        [*pip, "--python", str(environment / "bin" / "python"), "install", "--no-deps", str(wheel)], check=True
    )
    others = [path for path in sys.path if path.endswith("site-packages")]
    (packages / "others.pth").write_text("\n".join(others))  # what regimes depends on; its own files come first

    def regimes(*arguments: str) -> str:
        without = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
        done = subprocess.run(
            [environment / "bin" / "regimes", *arguments],
            cwd=folder,
            env=without,
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout

    printed = regimes("verify", "lazy_rate", "--config", "configs/lazy_rate.yaml", "--print-config")
    assert (
        printed
        == subprocess.run(
            [sys.executable, "cli.py", "verify", "lazy_rate", "--config", "configs/lazy_rate.yaml", "--print-config"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
    )
    lines = regimes("list").splitlines()
    assert len(lines) == len(names())
    assert any("supported" in line for line in lines)
    assert "Usage: regimes " in regimes("--help")
