"""Open event streams for the command line, Python, and JSON lines."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import suppress

from headstart.errors import UsageError
from headstart.events import Cancel, Event, EventStream, JsonLines, Listener
from headstart.messages.log import log_event
from headstart.messages.screen import Screen, Verbosity

__all__ = ["is_interactive", "open_console", "open_stream"]


def open_console(
    *, verbose: bool = False, quiet: bool = False, progress: str | None = None, details: str | None = None
) -> EventStream:
    """Return the event stream of the command line; output goes to stderr, since stdout is for data.

    Args:
        verbose: Show each decision and finding with its evidence.
        quiet: Show only the score.
        progress: `text` (default) or `json`: one event per line.
        details: As in `Screen`.

    Raises:
        UsageError: `progress` is neither, or both `verbose` and `quiet` are set.
    """
    if progress not in (None, "text", "json"):
        raise UsageError(f"--progress must be text or json, not `{progress}`.")
    if verbose and quiet:
        raise UsageError("-v and -q are mutually exclusive.", hint="use one of them")
    if progress == "json":
        return EventStream([JsonLines(sys.stderr)])
    verbosity = Verbosity.VERBOSE if verbose else Verbosity.QUIET if quiet else Verbosity.NORMAL
    return EventStream([Screen(verbosity=verbosity, details=details)])


def open_stream(
    verbose: bool | None = None,
    on_progress: Callable[[Event], None] | None = None,
    cancel: Cancel | None = None,
) -> EventStream:
    """Return the event stream of a Python function.

    Args:
        verbose: Whether to show the screen; by default in notebooks and interactive interpreters, otherwise events
            go to the logger `headstart`.
        on_progress: Called with every event.
        cancel: Stops the function when it is set.
    """
    listeners: list[Listener] = []
    if verbose or (verbose is None and is_interactive()):
        listeners.append(Screen())
    elif verbose is None:
        listeners.append(log_event)
    if on_progress is not None:
        listeners.append(on_progress)
    return EventStream(listeners, cancel=cancel)


def is_interactive() -> bool:
    """Return whether this is a notebook, IPython or an interactive interpreter."""
    if hasattr(sys, "ps1") or bool(sys.flags.interactive):
        return True
    with suppress(AttributeError, KeyError):
        return sys.modules["IPython"].get_ipython() is not None
    return False
