"""Statements of the theory of lazy training: near the start a net is its tangent model."""
