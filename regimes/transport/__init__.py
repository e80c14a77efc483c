"""Optimal transport of point clouds; knows no network."""
