"""The bench around the maths: configuration, run folders, sweeps, statistics, reports, figures."""
