"""Measure all performance targets as ratios to a named alternative in the same run."""
