"""Test lists of files as text."""

from __future__ import annotations

from headstart.messages.file_list import list_files
from headstart.types.records import Problem


def test_first_ten_files_then_count() -> None:
    lines = list_files([Problem(f"{i}.jpg", "empty", "the file is empty") for i in range(1234)])
    assert len(lines) == 11
    assert lines[-1].strip() == "... and 1,224 more"
