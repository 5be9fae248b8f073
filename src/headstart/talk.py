"""How headstart talks while it works: plain lines on stderr, one rewritten progress line on a terminal.

stdout is for data.  In a notebook or a pipe there is no terminal: then a progress line is printed at
most every few seconds, and nothing is rewritten.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from typing import TextIO

__all__ = ["Talk"]


class Talk:
    """Says what happens, keeps every line for `train.log`.

    Args:
        stream: Where lines go; None keeps them without showing them.
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        self.stream = stream
        self.lines: list[str] = []
        self._lock = threading.Lock()
        self._is_open = False

    def say(self, text: str = "") -> None:
        """One line."""
        with self._lock:
            self.lines.append(text)
            self._close()
            self._write(text + "\n")

    def warn(self, text: str) -> None:
        """One line that asks for attention."""
        self.say(f"warning: {text}")

    def progress(self, what: str, unit: str = "pictures") -> Callable[[int, int], None]:
        """A function to call with (done, in all); shows rate and time left."""
        started = time.monotonic()
        is_terminal = bool(self.stream is not None and self.stream.isatty())
        pause = 0.5 if is_terminal else 5.0
        last = started if not is_terminal else 0.0

        def report(done: int, total: int) -> None:
            nonlocal last
            now = time.monotonic()
            if now - last < pause and (done < total or not is_terminal):
                return
            last = now
            rate = done / max(now - started, 1e-6)
            left = (total - done) / rate if rate else 0.0
            text = f"{what}: {done:,} of {total:,} {unit}, {rate:,.0f} a second, {_duration(left)} left"
            with self._lock:
                if is_terminal:
                    self._write("\r" + text.ljust(78))
                    self._is_open = True
                    if done >= total:
                        self._close()
                else:
                    self._write(text + "\n")

        return report

    def _write(self, text: str) -> None:
        if self.stream is not None:
            try:
                self.stream.write(text)
            except UnicodeEncodeError:  # a console that knows no Unicode must not stop the work
                encoding = self.stream.encoding or "ascii"
                self.stream.write(text.encode(encoding, "replace").decode(encoding))
            self.stream.flush()

    def _close(self) -> None:
        if self._is_open:
            self._write("\n")
            self._is_open = False


def to_stderr() -> Talk:
    """The talk of the command line."""
    return Talk(sys.stderr)


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
