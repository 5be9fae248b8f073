"""Select fonts for class names in figures.

If no installed font has the glyphs of a name, the class is numbered and `class_names.txt` lists the names.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

from headstart.utils.dependencies import prepare_matplotlib

__all__ = ["NOTE", "drawable", "lettered", "names_text"]

NOTE = "Numbered classes: no installed font has the glyphs of their names, see class_names.txt."

_DEFAULT = "DejaVu Sans"  # comes with matplotlib


def drawable(report: Mapping[str, Any]) -> tuple[dict[str, Any], bool]:
    """Return the report with drawable names, and whether some were replaced by numbers.

    Only `class_names` and the names of `per_class` change.
    """
    names = [n if _is_drawable(n) else f"class {i + 1}" for i, n in enumerate(report["class_names"])]
    if names == list(report["class_names"]):
        return dict(report), False
    known = dict(zip(report["class_names"], names, strict=True))
    rows = [{**row, "name": known.get(row["name"], row["name"])} for row in report["per_class"]]
    return {**report, "class_names": names, "per_class": rows}, True


@contextmanager
def lettered(report: Mapping[str, Any]) -> Iterator[None]:
    """Let matplotlib use other installed fonts for glyphs missing in its default font."""
    missing = set().union(*(_needed(n) for n in report["class_names"])) - _covered(_default_path())
    if not missing:
        yield
        return
    prepare_matplotlib()
    import matplotlib as mpl

    families = [_DEFAULT]
    for family, path in _others():
        glyphs = missing & _covered(path)
        if glyphs and family not in families:
            families.append(family)
            missing -= glyphs
        if not missing:
            break
    with mpl.rc_context({"font.family": families}):
        yield


def names_text(report: Mapping[str, Any]) -> str:
    """Return `class_names.txt`: number and name of each class."""
    return "".join(f"class {i + 1}\t{' '.join(name.split())}\n" for i, name in enumerate(report["class_names"]))


def _needed(name: str) -> set[int]:
    """Return the code points of the visible characters."""
    return {ord(c) for c in name if c.isprintable() and not c.isspace()}


def _is_drawable(name: str) -> bool:
    """Return whether installed fonts have all glyphs of a name."""
    left = _needed(name) - _covered(_default_path())
    for _, path in _others() if left else ():
        left -= _covered(path)
        if not left:
            break
    return not left


def _default_path() -> str:
    prepare_matplotlib()
    from matplotlib import font_manager

    return str(font_manager.findfont(_DEFAULT))


@lru_cache(maxsize=1)
def _others() -> tuple[tuple[str, str], ...]:
    """Return (family, path) of every other installed font."""
    prepare_matplotlib()
    from matplotlib import font_manager

    fonts = {str(f.fname): str(f.name) for f in font_manager.fontManager.ttflist if f.name != _DEFAULT}
    return tuple((name, path) for path, name in sorted(fonts.items()))


@lru_cache(maxsize=512)
def _covered(path: str) -> frozenset[int]:
    prepare_matplotlib()
    from matplotlib.ft2font import FT2Font

    try:
        return frozenset(FT2Font(path).get_charmap())
    except (OSError, RuntimeError):
        return frozenset()
