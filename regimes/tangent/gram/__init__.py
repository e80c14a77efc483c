"""Tangent kernels layer by layer: factors of each parameter's derivatives, read from one graph, contracted in tiles."""
