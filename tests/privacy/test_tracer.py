"""Test that the tracer records and blocks actions of Python, child processes and native code."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from process_trace import run_traced

OFFENDER = """
import ctypes, os, socket, subprocess, sys
for call in (
    lambda: socket.getaddrinfo("python.invalid", 80),
    lambda: socket.gethostbyname("old.invalid"),
    lambda: socket.create_connection(("192.0.2.1", 9), timeout=5),
    lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"x", ("192.0.2.2", 53)),
    lambda: socket.create_connection(("127.0.0.1", 1), timeout=5),
):
    try:
        call()
    except OSError:
        pass
    else:
        raise SystemExit("not refused")
libc, found = ctypes.CDLL(None), ctypes.c_void_p()
assert libc.getaddrinfo(b"native.invalid", b"80", None, ctypes.byref(found)) != 0
home = os.environ["HOME"]
libc.fopen.restype = ctypes.c_void_p
assert libc.fopen(os.fsencode(home + "/native"), b"w")
folder = os.open(home, os.O_RDONLY)
os.close(os.open("relative", os.O_WRONLY | os.O_CREAT, dir_fd=folder))
os.mkdir(home + "/folder")
os.rename(home + "/relative", home + "/folder/renamed")
open(home + "/folder/renamed").close()
child = "import socket; socket.getaddrinfo('child.invalid', 80)"
subprocess.run([sys.executable, "-c", child], stderr=subprocess.DEVNULL)
"""


def test_lookups_connections_and_writes_are_traced(tracer: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    trace = run_traced(tracer, [sys.executable, "-c", OFFENDER], home=home, cwd=tmp_path)
    assert trace.returncode == 0, trace.output
    assert trace.lookups == {"python.invalid", "old.invalid", "native.invalid", "child.invalid"}
    assert trace.connections == {"192.0.2.1:9", "192.0.2.2:53"}
    names = {"native", "relative", "folder", "folder/renamed"}
    assert trace.changed_outside(tmp_path / "tmp") == {home / name for name in names}
    assert trace.changed_outside(home) == set()


def test_default_onnxruntime_files_are_traced(tracer: Path, tmp_path: Path) -> None:
    """With telemetry on, every file in the home folder appears in the trace."""
    pytest.importorskip("onnxruntime")
    home = tmp_path / "home"
    home.mkdir()
    trace = run_traced(tracer, [sys.executable, "-c", "import onnxruntime"], home=home, cwd=tmp_path)
    assert trace.returncode == 0, trace.output
    assert set(home.rglob("*")) <= trace.changed
