"""Turns your own pictures into a model you can trust, by transfer learning."""
__version__ = "0.1.0"
