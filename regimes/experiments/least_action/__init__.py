"""Statements of the theory of least action: residual nets that transport their data at least kinetic energy."""
