"""Write small datasets, and compare how they are read."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from headstart.types.codes import ReadingKind, ReadingNote
from headstart.types.records import Samples


def put(root: Path, *names: str) -> Path:
    """Write small images under these names."""
    for i, name in enumerate(names):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 4), (i % 256, 7, 9)).save(path, format="PNG")
    return root


def info(samples: Samples) -> dict[str, tuple[object, object, object]]:
    return {s.name: (s.label, s.split, s.group) for s in samples}


def notes_of(samples: Samples) -> dict[ReadingKind, ReadingNote]:
    assert len({n.kind for n in samples.notes}) == len(samples.notes)
    return {n.kind: n for n in samples.notes}
