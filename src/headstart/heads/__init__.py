"""Heads on frozen features: closed forms with exact leave-one-out; takes and returns numpy arrays."""

from __future__ import annotations

from headstart.heads.linear import LinearHead
from headstart.heads.normalise import Normaliser, fit_normaliser
from headstart.heads.probe import ProbeFit, fit_probe

__all__ = ["LinearHead", "Normaliser", "ProbeFit", "fit_normaliser", "fit_probe"]
