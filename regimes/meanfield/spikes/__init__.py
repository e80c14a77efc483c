"""Sparse deconvolution on the torus: their risk, its dual certificate, and ways to the minimum."""
