"""Was a training run lazy: two states of one network, measured and judged. `diagnose.diagnose` is the door."""
