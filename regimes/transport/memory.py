"""How much memory the process has held at most."""

import sys

import torch


def peak_memory(device: torch.device) -> int:
    """Largest resident size of the process so far in bytes, with the peak allocated on `device` if it is CUDA.

    The resident part is 0 where the platform does not tell (Windows).
    """
    on_device = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else 0
    if sys.platform == "win32":
        return on_device
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit + on_device
