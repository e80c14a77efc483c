"""Differential equations, and layers as their steps: methods, gradients, stability, sweeps; imports no network."""
