"""How much memory the process has held at most."""

import resource
import sys

import torch


def peak_memory(device: torch.device) -> int:
    """Largest resident size of the process so far in bytes, with the peak allocated on `device` if it is CUDA."""
    unit = 1 if sys.platform == "darwin" else 1024
    resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    return resident + (torch.cuda.max_memory_allocated(device) if device.type == "cuda" else 0)
