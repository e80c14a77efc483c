"""Where a result came from: commit, versions, device, command, time; no name of a machine or of a person."""

import hashlib
import json
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from regimes.errors import UserError

FIRST = ("started", "command", "commit")  # of a run's first launch, which no later one changes
PACKAGES = (
    "regimes",
    "torch",
    "numpy",
    "scipy",
    "pandas",
    "matplotlib",
    "scikit-learn",
    "POT",
    "jax",
    "neural-tangents",
)
HERE = Path(__file__).resolve().parent
OWN = ("regimes", "configs")  # folders in which an untracked file is code, too
CODE = (":(top)", *(f":(top,exclude){name}" for name in ("results", "docs", "tests", "*.md")))


def provenance(device: str | None = "cpu") -> dict[str, Any]:
    """Commit and whether the tree was changed, versions, device, the command to reproduce, the time of the start.

    device None: of a launch that measures nothing, or nothing yet.
    """
    commit, changed = git_state()
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    return {
        "commit": commit,
        "uncommitted_changes": changed,
        "command": command_line(sys.argv),
        "started": datetime.now(UTC).isoformat(timespec="milliseconds"),
        **({} if device is None else {"device": device_name(device)}),
        **({"processes": processes} if processes > 1 else {}),
        "cores": os.cpu_count(),
        "versions": versions(),
    }


def git_state(folder: Path = HERE) -> tuple[str | None, bool | None]:
    """Commit of the git tree that holds the folder, and whether its code or configs differ from it; None without one.

    Results, documents and tests do not count; files of code and configs that are not tracked do.
    """
    try:
        if not git(folder, "ls-files", "."):  # installed into an environment inside somebody's repository
            return None, None
        changed = git(folder, "status", "--porcelain", "--untracked-files=no", "--", *CODE)
        return git(folder, "rev-parse", "HEAD"), bool(changed or _untracked(folder))
    except (OSError, subprocess.SubprocessError):
        return None, None


def uncommitted_diff(folder: Path = HERE) -> str:
    """What the code and configs have that the commit does not, as a patch; empty without git."""
    try:
        patch = git(folder, "diff", "--no-color", "HEAD", "--", *CODE)
        top = Path(git(folder, "rev-parse", "--show-toplevel"))
        new = [f"\n# untracked: {file}\n{(top / file).read_text(encoding='utf-8')}" for file in _untracked(folder)]
        return "\n".join([patch, *new]).strip() + "\n"
    except (OSError, UnicodeDecodeError, subprocess.SubprocessError):
        return ""


def same_code(old: str, new: str, folder: Path = HERE) -> bool:
    """Whether two commits have the same code and configs; False if one is not there to be compared."""
    if old == new:
        return True
    try:
        return not git(folder, "diff", "--name-only", old, new, "--", *CODE)
    except (OSError, subprocess.SubprocessError):
        return False


def git(folder: Path, *arguments: str) -> str:
    """What git says; SubprocessError if it fails, OSError if there is none."""
    command = ["git", "-C", str(folder), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout.strip()


def _untracked(folder: Path) -> list[str]:
    top = ":(top)"
    listed = git(folder, "ls-files", "--others", "--exclude-standard", "--full-name", "--", *(top + f for f in OWN))
    return listed.splitlines()


def versions() -> dict[str, str]:
    """Versions of Python and of the installed packages that results depend on, without importing them."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def command_line(arguments: list[str]) -> str:
    """The command of this process, ready to be pasted into a shell at the root of the repository."""
    program, *rest = arguments or [""]
    name = Path(program).name
    if name == "cli.py" or program.endswith("__main__.py"):
        return shlex.join([*_launcher(), "cli.py", *rest])
    return shlex.join([name, *rest])


def _launcher() -> list[str]:
    """What started this process; with torchrun on several machines, its options on each of them save the address."""
    if os.environ.get("WORLD_SIZE", "1") == "1":
        return ["python"]
    machines = os.environ.get("GROUP_WORLD_SIZE", "1")
    here = os.environ.get("LOCAL_WORLD_SIZE", os.environ["WORLD_SIZE"])
    return ["torchrun", *([] if machines == "1" else ["--nnodes", machines]), "--nproc-per-node", here]


def device_name(device: str) -> str:
    """The processor's model, or the graphics card's for a CUDA device; ValueError if that is not there."""
    if device.startswith("cuda"):
        import torch

        if not torch.cuda.is_available():
            raise UserError(
                f"device {device!r} needs a CUDA graphics card and a torch built for it; "
                f"torch {torch.__version__} sees none: pass --device cpu or --set device=cpu"
            )
        return f"{device}: {torch.cuda.get_device_name(device)}"
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    model = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "")
    return f"cpu: {model or platform.machine()}"


def device_of(config: Mapping[str, Any]) -> str:
    """The device on which these settings measure, by its name; UserError where it is not there."""
    return device_name(str(config.get("device", "cpu")))


def measuring(launches: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The launches that have measured: not those that have only joined what others had."""
    return [launch for launch in launches if not launch.get("joined")]


def latest(launches: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Provenance of the latest launch that has measured; the commits and the devices of all if they differ."""
    measured = measuring(launches)
    record = dict(measured[-1]) if measured else {}
    for plural, name in (("commits", "commit"), ("devices", "device")):
        if len(found := list(dict.fromkeys(str(launch.get(name)) for launch in measured))) > 1:
            record[plural] = found
    return record


def run_identity(name: str, launches: Sequence[Mapping[str, Any]]) -> str:
    """16 hexadecimal digits that the launches of one run in one folder have in common, and no other run."""
    text = json.dumps([name, *(launches[0].get(entry) for entry in FIRST)])
    return hashlib.sha256(text.encode()).hexdigest()[:16]
