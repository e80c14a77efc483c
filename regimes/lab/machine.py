"""What the machine has to spare."""

from pathlib import Path

MEMINFO = Path("/proc/meminfo")


def free_memory(device: str = "cpu") -> float | None:
    """Bytes that are free on the device, None where the system does not say."""
    if device == "cuda":
        import torch

        return float(torch.cuda.mem_get_info()[0]) if torch.cuda.is_available() else None
    if not MEMINFO.exists():
        return None
    lines = dict(line.split(":", 1) for line in MEMINFO.read_text(encoding="ascii").splitlines() if ":" in line)
    return float(lines["MemAvailable"].split()[0]) * 2**10 if "MemAvailable" in lines else None
