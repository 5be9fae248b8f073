"""Test run locks: one process per run, released when a process is killed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from headstart.utils.locks import FolderLock

CHILD = """
import sys
from pathlib import Path
from headstart.utils.locks import FolderLock
claim = FolderLock(Path(sys.argv[1]))
print(claim.take(), flush=True)
sys.stdin.read()
"""


def test_lock_is_held_until_process_ends(tmp_path: Path) -> None:
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with child:
        assert child.stdout is not None
        assert child.stdout.readline() == "True\n"
        claim = FolderLock(tmp_path)
        assert claim.is_taken()
        assert not claim.take()
        child.kill()
    assert not claim.is_taken()
    assert claim.take()
    claim.drop()


def test_missing_lock_file_is_free(tmp_path: Path) -> None:
    assert not FolderLock(tmp_path / "none").is_taken()
    assert FolderLock(tmp_path / "none").take()  # a missing folder raises later, on saving
