"""Fixed-step and adaptive integration of ODEs; knows no network."""
