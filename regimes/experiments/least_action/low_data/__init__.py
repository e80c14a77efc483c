"""What the tables of few training samples share: arms, the course of one run, comparisons paired by seed, pictures."""
