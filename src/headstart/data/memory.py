"""Keeps what was seen of files between runs, so that a second judgement decodes nothing.

The one decision: everything is keyed by the content of the files, never by their names or dates, and a file
of the memory is written beside its place and renamed into it: it is whole or it is not there.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import zipfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headstart.data.looks import Facts, Look, Looks
from headstart.errors import CacheError
from headstart.machine import atomic_file, private_folder
from headstart.pixels.exif import Exif

__all__ = ["Memory", "digest_of"]

_VERSION = 1  # of what is kept; another version is forgotten
_LIMIT_BYTES = 2 << 30
_ROWS = ("thumbs", "colours", "histograms", "borders")


class Memory:
    """What is known of the files of one data set.

    Args:
        root: The cache folder (see `machine.cache_root`).
        place: Where the data set lies: one file of the memory is kept for each.
    """

    def __init__(self, root: Path, place: str) -> None:
        name = hashlib.sha256(os.path.abspath(place).encode("utf-8", "surrogatepass")).hexdigest()[:32]
        self.folder = root / "looks"
        self.path = self.folder / f"{name}.npz"
        self.write_error: str | None = None
        self._facts: dict[str, tuple[dict[str, Any], int]] = {}
        self._arrays: dict[str, NDArray[np.uint8]] = {}
        self._notes: dict[str, Any] = {}
        self._load()

    def __len__(self) -> int:
        return len(self._facts)

    def look(self, digest: str) -> Look | None:
        """What was seen of a file with these contents, or None."""
        found = self._facts.get(digest)
        if found is None:
            return None
        facts, row = found
        return Look(_to_facts(facts), *(self._arrays[name][row] for name in _ROWS))

    def note(self, key: str) -> Any | None:
        """A JSON value that was kept under a key, or None."""
        return self._notes.get(key)

    def keep(self, looks: Looks, notes: dict[str, Any] | None = None) -> None:
        """Keeps what was seen (and notes), unless the disk refuses, which only makes the next run slower."""
        rows: list[int] = []
        seen: set[str] = set()
        for i, facts in enumerate(looks.facts):
            if facts is not None and facts.digest not in seen:
                seen.add(facts.digest)
                rows.append(i)
        if seen == set(self._facts) and (notes is None or notes == self._notes):
            with contextlib.suppress(OSError):
                os.utime(self.path)
            return
        text = json.dumps([asdict(f) for i in rows if (f := looks.facts[i]) is not None])
        arrays = {name: getattr(looks, name)[rows] for name in _ROWS}
        more = json.dumps(self._notes if notes is None else notes)
        try:
            private_folder(self.folder)
            with atomic_file(self.path) as temporary, open(temporary, "wb") as file:
                np.savez(file, version=np.array(_VERSION), facts=_bytes(text), notes=_bytes(more), **arrays)
            _bound(self.folder, self.path)
        except (OSError, CacheError) as error:
            self.write_error = str(error)

    def _load(self) -> None:
        try:
            with np.load(self.path, allow_pickle=False) as data:
                if int(data["version"]) != _VERSION:
                    return
                facts = json.loads(data["facts"].tobytes())
                arrays = {name: data[name] for name in _ROWS}
                notes = json.loads(data["notes"].tobytes())
            if any(len(a) != len(facts) for a in arrays.values()):
                return
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            return
        self._facts = {f["digest"]: (f, row) for row, f in enumerate(facts)}
        self._arrays, self._notes = arrays, notes


def digest_of(values: Sequence[str]) -> str:
    """One digest of many, in their order."""
    return hashlib.sha256("\n".join(values).encode()).hexdigest()


def _to_facts(value: dict[str, Any]) -> Facts:
    fields = dict(value)
    fields["size_hw"] = tuple(fields["size_hw"])
    fields["exif"] = Exif(**fields["exif"])
    fields["quantiles"] = None if fields["quantiles"] is None else tuple(fields["quantiles"])
    fields["remarks"] = tuple((kind, detail) for kind, detail in fields["remarks"])
    return Facts(**fields)


def _bytes(text: str) -> NDArray[np.uint8]:
    return np.frombuffer(text.encode(), dtype=np.uint8)


def _bound(folder: Path, keep: Path) -> None:
    """Drops the data sets that were not looked at for longest until the limit holds."""
    files = []
    for path in folder.glob("*.npz"):
        with contextlib.suppress(OSError):
            files.append((path.stat().st_mtime, path.stat().st_size, path))
    total = sum(size for _, size, _ in files)
    for _, size, path in sorted(files):
        if total <= _LIMIT_BYTES:
            break
        if path != keep:
            with contextlib.suppress(OSError):
                path.unlink()
            total -= size
