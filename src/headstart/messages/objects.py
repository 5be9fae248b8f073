"""Render the events of a finished pipeline as text and HTML for result objects."""

from __future__ import annotations

import html
import io
from collections.abc import Iterable

from headstart.messages.screen import Screen
from headstart.types.events import Event, Progress

__all__ = ["story_html", "story_lines"]

_COLORS = {"Error": "#c62828", "Warning": "#b26a00"}
_DETAILS = ".findings"


def story_lines(events: Iterable[Event]) -> list[str]:
    """Return the screen lines of the events."""
    stream = io.StringIO()
    screen = Screen(stream, details=_DETAILS)
    for event in events:
        if not isinstance(event, Progress):
            screen(event)
    screen.close()
    return stream.getvalue().splitlines()


def story_html(events: Iterable[Event]) -> str:
    """Return the same lines as an HTML table of labels and texts, everything escaped."""
    screen = _Rows()
    for event in events:
        if not isinstance(event, Progress):
            screen(event)
    screen.close()
    rows = []
    for label, text in screen.rows:
        color = _COLORS.get(label)
        style = f' style="color:{color}"' if color else ""
        rows.append(f"<tr><th{style}>{html.escape(label)}</th><td>{html.escape(text)}</td></tr>")
    return f"<table>{''.join(rows)}</table>"


class _Rows(Screen):
    """A screen that collects its rows."""

    def __init__(self) -> None:
        super().__init__(io.StringIO(), details=_DETAILS)
        self.rows: list[tuple[str, str]] = []

    def _print(self, label: str, text: str) -> None:
        self.rows.append((label, text))
