"""Statements of training as optimal control: integrators, adjoints, stability."""
