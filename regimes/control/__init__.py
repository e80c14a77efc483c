"""Adaptive integration of ODEs for an ensemble of runs; knows no network."""
