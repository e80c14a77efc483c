"""Statements of the mean-field theory: nets as measures over particles."""
