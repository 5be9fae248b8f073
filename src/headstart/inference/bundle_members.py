"""Safely open the files of a bundle in a folder or a zip.

Zips are read in memory without extraction. Only known members are opened, and sizes in headers are not trusted.
"""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Protocol

from headstart.errors import BundleError, UsageError

__all__ = [
    "DIGEST_LENGTH",
    "INFO",
    "MODEL",
    "SCHEMA",
    "TRAINED_ON",
    "WEIGHTS",
    "BundleMembers",
    "damaged",
    "open_members",
]

INFO, MODEL, WEIGHTS, TRAINED_ON = "bundle.json", "model.onnx", "model.safetensors", "trained_on.txt"

SCHEMA = 2
"""Version of the bundle layout; bundles with another one are rejected."""

DIGEST_LENGTH = 16
"""Hex digits stored of the digest of each training image: enough to recognize the image."""

LIMITS = {INFO: 32 << 20, MODEL: 2 << 30, WEIGHTS: 8 << 30, TRAINED_ON: 1 << 30}
"""Maximum size of each file in bytes; 2 GiB is the protobuf limit."""

_CHUNK = 1 << 20
_MAX_MEMBERS = 100_000  # zips of run folders include checkpoints and figures


class BundleMembers(Protocol):
    """Read access to the files of a bundle by name."""

    path: str

    def size(self, name: str) -> int:
        """Return the size of a file in bytes; raise BundleError if it is missing."""
        ...

    def open(self, name: str) -> Any:
        """Return a context manager that yields a binary stream."""
        ...


def open_members(path: str) -> BundleMembers:
    """Find the bundle in a run folder, a bundle folder, or a zip of either.

    Raises:
        UsageError: The path does not exist.
        BundleError: The path is not a bundle.
    """
    place = Path(path)
    try:
        if place.is_dir():
            for folder in (place, place / "bundle"):
                if (folder / INFO).is_file():
                    return _Folder(path, folder)
            raise BundleError(
                f"`{path}` is neither a run folder nor a bundle: it has no `{INFO}`.",
                hint="use a folder written by `headstart train`, e.g. runs/train1",
            )
        if not place.exists():
            raise UsageError(f"there is no model at `{path}`.", hint="use a run folder, a bundle folder or its zip")
        if zipfile.is_zipfile(place):
            return _Zip(path)
    except OSError as error:
        raise BundleError(f"cannot read `{path}` ({error.strerror or error}).") from error
    raise BundleError(
        f"`{path}` is not a bundle; expected a folder with `{INFO}`, or a zip of one.",
        hint="if the file is a zip, copy it again: it may be truncated",
    )


def read_member(members: BundleMembers, name: str) -> bytes:
    """Return the contents of a file; raise BundleError if it exceeds its size limit."""
    with members.open(name) as stream:
        return b"".join(_chunks(stream, name, members.path))


def read_checked(members: BundleMembers, name: str, files: Mapping[str, Any]) -> bytes:
    """Return the contents of a file after verifying its size and digest.

    Raises:
        BundleError: The file is missing, or its size or digest differs.
    """
    check_size(members, name, files)
    data = read_member(members, name)
    if hashlib.sha256(data).hexdigest() != files[name].get("sha256"):
        raise damaged(members.path, f"the digest of `{name}` does not match")
    return data


def check_size(members: BundleMembers, name: str, files: Mapping[str, Any]) -> None:
    """Raise BundleError for a missing or truncated file, without reading it."""
    expected = files[name].get("size_bytes") if isinstance(files[name], dict) else None
    size = members.size(name)
    if size != expected:
        raise damaged(members.path, f"`{name}` has {size:,} bytes instead of {expected}")


def damaged(path: str, what: str) -> BundleError:
    """Return the error for a damaged bundle."""
    return BundleError(f"the bundle `{path}` is damaged: {what}.", hint="copy the bundle again, or retrain the model")


def _chunks(stream: IO[bytes], name: str, path: str) -> Iterator[bytes]:
    total = 0
    while chunk := stream.read(_CHUNK):
        total += len(chunk)
        if total > LIMITS[name]:
            raise damaged(path, f"`{name}` exceeds its size limit")
        yield chunk


class _Folder:
    def __init__(self, path: str, folder: Path) -> None:
        self.path = path
        self._folder = folder

    def size(self, name: str) -> int:
        try:
            return (self._folder / name).stat().st_size
        except FileNotFoundError as error:
            raise damaged(self.path, f"`{name}` is missing") from error
        except OSError as error:
            raise BundleError(f"cannot read `{self._folder / name}` ({error.strerror or error}).") from error

    @contextmanager
    def open(self, name: str) -> Iterator[IO[bytes]]:
        self.size(name)
        try:
            with open(self._folder / name, "rb") as stream:
                yield stream
        except OSError as error:
            raise BundleError(f"cannot read `{self._folder / name}` ({error.strerror or error}).") from error


class _Zip:
    def __init__(self, path: str) -> None:
        self.path = path
        try:
            with zipfile.ZipFile(path) as archive:
                members = archive.infolist()
        except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
            raise damaged(path, f"cannot read the zip ({error})") from error
        if len(members) > _MAX_MEMBERS:
            raise damaged(path, f"the zip has {len(members):,} members")
        self._sizes = {member.filename: member.file_size for member in members}
        parents = [name[: -len(INFO)] for name in self._sizes if name == INFO or name.endswith(f"/{INFO}")]
        if len(parents) != 1:
            raise BundleError(
                f"`{path}` contains {len(parents)} bundles; expected exactly one.", hint="zip a single bundle folder"
            )
        self._parent = parents[0]

    def size(self, name: str) -> int:
        size = self._sizes.get(self._parent + name)
        if size is None:
            raise damaged(self.path, f"`{name}` is missing")
        return size

    @contextmanager
    def open(self, name: str) -> Iterator[IO[bytes]]:
        self.size(name)
        try:
            with zipfile.ZipFile(self.path) as archive, archive.open(self._parent + name) as stream:
                yield stream
        except BundleError:
            raise
        except Exception as error:  # zlib.error, BadZipFile, EOFError, RuntimeError (encrypted) ...
            raise damaged(self.path, f"cannot decompress `{name}` ({error})") from error
