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
lock = FolderLock(Path(sys.argv[1]))
print(lock.acquire(), flush=True)
sys.stdin.read()
"""


def test_lock_is_held_until_process_ends(tmp_path: Path) -> None:
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with child:
        assert child.stdout is not None
        assert child.stdout.readline() == "True\n"
        lock = FolderLock(tmp_path)
        assert lock.is_locked()
        assert not lock.acquire()
        child.kill()
    assert not lock.is_locked()
    assert lock.acquire()
    lock.release()


def test_missing_lock_file_is_free(tmp_path: Path) -> None:
    assert not FolderLock(tmp_path / "none").is_locked()
    assert FolderLock(tmp_path / "none").acquire()  # a missing folder raises later, on saving
