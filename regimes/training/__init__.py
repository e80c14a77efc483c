"""Training of classifiers: objective, loop, checkpoints, runs."""
