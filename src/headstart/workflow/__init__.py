"""Implement the end-to-end pipelines behind `headstart.api`."""
