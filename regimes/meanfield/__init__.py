"""Measures carried by particles, and their gradient flows."""
