"""Helpers without knowledge of images or models: files, locks, units, system."""
