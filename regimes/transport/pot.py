"""POT, imported without the libraries that it would bring along: its solvers here take NumPy arrays."""

import os
import sys
from importlib import import_module
from typing import Any

# POT imports each of these wherever it is installed, which takes seconds, and memory of the card.
BACKENDS = {"jax": "JAX", "cupy": "CUPY", "tensorflow": "TENSORFLOW"}


def pot() -> Any:
    """The module `ot`. At its first import only the backends are blocked that nobody has imported or asked about.

    The documented variables POT_BACKEND_DISABLE_... are heeded where they are set, and are as before afterwards.
    """
    if "ot" in sys.modules:
        return sys.modules["ot"]
    names = {f"POT_BACKEND_DISABLE_{key}" for module, key in BACKENDS.items() if module not in sys.modules}
    ours = names - os.environ.keys()
    os.environ.update(dict.fromkeys(ours, "1"))
    try:
        return import_module("ot")
    finally:
        for name in ours:
            os.environ.pop(name, None)
