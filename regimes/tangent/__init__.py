"""Tangent models: empirical and infinite-width kernels, linearisation, kernel regression."""
