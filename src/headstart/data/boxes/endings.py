"""List the extensions of annotation files, and find folders without any, before a reader is imported."""

from __future__ import annotations

import os

from headstart.data.formats import IMAGES, container_kind

__all__ = ["ENDINGS", "holds_only_images"]

ENDINGS = (
    *(".xml", ".json", ".yaml", ".yml", ".txt", ".csv", ".tsv", ".names", ".labels", ".data", ".manifest"),
    *(".jsonl", ".odgt", ".tfrecord", ".ndjson", ".mdb"),
)
"""Extensions of files that may hold annotations."""


def holds_only_images(path: str) -> bool:
    """Return whether a folder has images and neither annotations, containers nor linked folders, by extension."""
    has_images = False
    for folder, folders, files in os.walk(path):
        if any(os.path.islink(os.path.join(folder, name)) for name in folders):
            return False
        names = [file.lower() for file in files]
        if any(name.endswith(ENDINGS) or container_kind(name) for name in names):
            return False
        has_images = has_images or any(os.path.splitext(name)[1] in IMAGES for name in names)
    return has_images
