"""Fit closed-form linear heads on frozen features with exact leave-one-out; numpy in, numpy out."""

from __future__ import annotations

from headstart.probe.linear import LinearHead
from headstart.probe.normalize import Normalizer, fit_normalizer
from headstart.probe.probe import ProbeFit, fit_probe

__all__ = ["LinearHead", "Normalizer", "ProbeFit", "fit_normalizer", "fit_probe"]
