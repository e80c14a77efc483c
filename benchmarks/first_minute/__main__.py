"""The first minutes on a graphics card: does all of it run there, is it right, and how fast is it?

Every item runs in a process of its own, so that no failure stops another one, and writes what it finds at once, as JSON
lines in a file of the output folder; summary.jsonl says how each item ended. What answers "right?" runs side by side,
what measures time afterwards and alone. The limit holds for all of it together; what does not fit is said.

Items: versions; tests (pytest -m gpu); agree (a step in float64, CPU against card); joined_norms; no_waits; train
(digits, interrupted and resumed, compiled, as CUDA graphs, against eager); out_of_memory; members (eight together
against one); throughput; compiled.

With --device cpu it rehearses itself in tiny sizes: what fails there, fails on a card.

Run: python -m benchmarks.first_minute [--device cuda] [--out FOLDER] [--seconds 480] [--items agree train ...]
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path

TOGETHER = ("versions", "tests", "agree", "joined_norms", "no_waits", "train", "out_of_memory")
IN_TURN = ("members", "throughput", "compiled")  # nothing beside them
ITEMS = (*TOGETHER, *IN_TURN)
SHARE = 0.45  # of the limit, at most, for what runs side by side
ROOT = Path(__file__).resolve().parents[2]


def versions() -> dict[str, object]:
    """Of Python, torch, CUDA, the card and the code."""
    import torch

    asked = ["git", "-C", str(ROOT), "rev-parse", "HEAD"]
    try:
        commit = subprocess.run(asked, capture_output=True, text=True, check=False).stdout.strip()
    except OSError:
        commit = ""
    found: dict[str, object] = {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
        "cores": os.cpu_count(),
        "commit": commit or None,
    }
    if torch.cuda.is_available():
        card = torch.cuda.get_device_properties(0)
        found |= {
            "card": card.name,
            "card_gib": round(card.total_memory / 2**30, 1),
            "capability": f"{card.major}.{card.minor}",
        }
    return found


def marked_tests() -> dict[str, object]:
    """The tests marked gpu; in a rehearsal they are collected, and skip themselves."""
    files = sorted(str(path) for path in (ROOT / "tests").glob("test_*.py") if "mark.gpu" in path.read_text("utf-8"))
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-m",
        "gpu",
        "--continue-on-collection-errors",
        "-p",
        "no:cacheprovider",
    ]
    ended = subprocess.run([*command, *files], cwd=ROOT, capture_output=True, text=True, check=False)
    words = ended.stdout.strip().splitlines()
    told = [line for line in words if line.startswith(("FAILED", "ERROR"))]
    return {"ok": ended.returncode == 0, "files": len(files), "last": words[-1:] and words[-1], "failed_tests": told}


def run_item(item: str, device: str, out: Path, deadline: float) -> int:
    """One item in this process; how many of its cases are wrong."""
    from benchmarks.first_minute import fast, right, runs
    from benchmarks.first_minute.records import Records

    records = Records(out, item, deadline)
    if item == "versions":
        records.attempt("this machine", versions)
    elif item == "tests":
        records.attempt("pytest -m gpu", marked_tests)
    elif item in ("agree", "joined_norms", "no_waits"):
        getattr(right, item)(records, device)
    elif item == "train":
        runs.train(records, device, out / "runs", compiled=device == "cuda")
    elif item == "out_of_memory":
        runs.out_of_memory(records, device, out / "runs")
    else:
        getattr(fast, item)(records, device)
    return records.failed


def start(item: str, device: str, out: Path, deadline: float) -> subprocess.Popen[bytes]:
    """The process of an item; what it says goes into a file beside its results."""
    own = ["--device", device, "--out", str(out), "--one", item, "--deadline", str(deadline)]
    with (out / f"{item}.log").open("wb") as log:
        command = [sys.executable, "-m", "benchmarks.first_minute", *own]
        return subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL)


def watch(running: dict[str, subprocess.Popen[bytes]], out: Path, deadline: float) -> int:
    """Wait for the items, until the deadline at most; how many went wrong."""
    wrong, began = 0, time.time()
    while running:
        late = time.time() > deadline
        for item, process in list(running.items()):
            if late:
                process.kill()
                process.wait()
            if (code := process.poll()) is None:
                continue
            del running[item]
            lines = (out / f"{item}.jsonl").read_text("utf-8").splitlines() if (out / f"{item}.jsonl").exists() else []
            told = [json.loads(line) for line in lines]
            bad = [one for one in told if one.get("ok") is False]
            left_out = sum("left_out" in one for one in told)
            ended = "cut off" if late and code != 0 else "ended" if code in (0, 1) else f"died ({code})"
            wrong += bool(bad) or (code not in (0, 1) and not late)
            entry = {"item": item, "ended": ended, "cases": len(told), "wrong": len(bad), "left_out": left_out}
            entry["seconds"] = round(time.time() - began, 1)
            with (out / "summary.jsonl").open("a", encoding="utf-8") as file:
                file.write(json.dumps(entry) + "\n")
            print(", ".join(f"{name} {value}" for name, value in entry.items()), flush=True)
            for one in bad:
                print(
                    f"    WRONG {one['case']}: "
                    + str({k: v for k, v in one.items() if k not in ("item", "case", "trace")})
                )
            if ended.startswith("died"):
                print("    " + "\n    ".join((out / f"{item}.log").read_text("utf-8", "replace").splitlines()[-6:]))
        time.sleep(0.1)
    return wrong


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cuda")
    parser.add_argument("--out", type=Path, default=Path("runs/first-minute"))
    parser.add_argument("--seconds", type=float, default=480.0)
    parser.add_argument("--items", nargs="+", choices=ITEMS, default=list(ITEMS))
    parser.add_argument("--one", choices=ITEMS, help=argparse.SUPPRESS)
    parser.add_argument("--deadline", type=float, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one is not None:
        raise SystemExit(min(1, run_item(given.one, given.device, given.out, given.deadline)))
    out, end = given.out.resolve(), time.time() + given.seconds
    out.mkdir(parents=True, exist_ok=True)
    for old in (*out.glob("*.jsonl"), *out.glob("*.log")):
        old.unlink()
    beside, wrong = [item for item in TOGETHER if item in given.items], 0
    middle = time.time() + given.seconds * (SHARE if set(given.items) & set(IN_TURN) else 1.0)
    groups = [beside] if given.device == "cuda" else [[item] for item in beside]  # one after the other in a rehearsal
    for group in groups:
        wrong += watch({item: start(item, given.device, out, middle - 2) for item in group}, out, middle)
    for item in (item for item in IN_TURN if item in given.items):
        wrong += watch({item: start(item, given.device, out, end - 5)}, out, end)
    print(f"{'all items ended well' if not wrong else f'{wrong} items WRONG'}; results in {out}", flush=True)
    raise SystemExit(min(1, wrong))


if __name__ == "__main__":
    main()
