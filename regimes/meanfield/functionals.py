"""Functionals of measures: what flows and certificates ask of one, and two ways to get one from a function."""

from regimes.meanfield.feature_risk import FeatureRisk
from regimes.meanfield.forces import Forces, Functional
from regimes.meanfield.general import General, general

__all__ = ["FeatureRisk", "Forces", "Functional", "General", "general"]
