"""Training of classifiers: objective, loop, checkpoints, runs."""

import os

# torch takes large tensors from huge pages, which makes a step on a CPU faster; it reads this before its first tensor.
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
