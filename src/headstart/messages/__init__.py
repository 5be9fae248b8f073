"""Render typed findings as text."""
