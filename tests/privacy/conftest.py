"""Compile the tracer once."""

from __future__ import annotations

from pathlib import Path

import pytest
from process_trace import build_tracer


@pytest.fixture(scope="session")
def tracer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tracer(tmp_path_factory.mktemp("tracer"))
