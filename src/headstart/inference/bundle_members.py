"""Open the files of a bundle in a folder or a zip safely.

A zip is read in memory without extraction; only known members are opened, and sizes in headers are not trusted.
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
"""Version of the layout; a runtime refuses bundles with a larger one."""

DIGEST_LENGTH = 16
"""Hex digits kept of the digest of each training image: enough to know it again, too few to prove more."""

LIMITS = {INFO: 32 << 20, MODEL: 2 << 30, WEIGHTS: 8 << 30, TRAINED_ON: 1 << 30}
"""Largest size of each file, bytes; 2 GiB is as large as a protobuf can be."""

_CHUNK = 1 << 20
_MAX_MEMBERS = 100_000  # a whole run may be zipped, with its checkpoints and figures


class BundleMembers(Protocol):
    """Files of one bundle by name."""

    path: str

    def size(self, name: str) -> int:
        """Its size in bytes; BundleError where it is missing."""
        ...

    def open(self, name: str) -> Any:
        """Return a context manager over a binary stream."""
        ...


def open_members(path: str) -> BundleMembers:
    """Find the bundle in a run folder, a bundle folder, or a zip of either.

    Raises:
        UsageError: There is nothing at that path.
        BundleError: What is there is no bundle.
    """
    place = Path(path)
    try:
        if place.is_dir():
            for folder in (place, place / "bundle"):
                if (folder / INFO).is_file():
                    return _Folder(path, folder)
            raise BundleError(
                f"`{path}` is neither a run nor a bundle: there is no `{INFO}` in it.",
                hint="name the folder that `headstart train` wrote, e.g. runs/train1",
            )
        if not place.exists():
            raise UsageError(f"there is no model at `{path}`.", hint="name a run folder, a bundle folder or its zip")
        if zipfile.is_zipfile(place):
            return _Zip(path)
    except OSError as error:
        raise BundleError(f"`{path}` cannot be read ({error.strerror or error}).") from error
    raise BundleError(
        f"`{path}` is not a bundle: a folder with `{INFO}`, or a whole zip of one, is expected.",
        hint="if it is a zip, copy it again: it may be cut off",
    )


def read_member(members: BundleMembers, name: str) -> bytes:
    """Return the contents of a small file up to its size limit."""
    with members.open(name) as stream:
        return b"".join(_chunks(stream, name, members.path))


def read_checked(members: BundleMembers, name: str, files: Mapping[str, Any]) -> bytes:
    """Return a file after verifying its size and digest.

    Raises:
        BundleError: They are not.
    """
    check_size(members, name, files)
    data = read_member(members, name)
    if hashlib.sha256(data).hexdigest() != files[name].get("sha256"):
        raise damaged(members.path, f"`{name}` is not the file that was written (its digest differs)")
    return data


def check_size(members: BundleMembers, name: str, files: Mapping[str, Any]) -> None:
    """Raise for a missing or truncated file without reading it."""
    expected = files[name].get("size_bytes") if isinstance(files[name], dict) else None
    size = members.size(name)
    if size != expected:
        raise damaged(members.path, f"`{name}` has {size:,} bytes where {expected} are expected")


def damaged(path: str, what: str) -> BundleError:
    """Return the error for a damaged bundle."""
    return BundleError(f"the bundle `{path}` is damaged: {what}.", hint="copy it again, or train again")


def _chunks(stream: IO[bytes], name: str, path: str) -> Iterator[bytes]:
    total = 0
    while chunk := stream.read(_CHUNK):
        total += len(chunk)
        if total > LIMITS[name]:
            raise damaged(path, f"`{name}` is larger than a bundle's may be")
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
            raise BundleError(f"`{self._folder / name}` cannot be read ({error.strerror or error}).") from error

    @contextmanager
    def open(self, name: str) -> Iterator[IO[bytes]]:
        self.size(name)
        try:
            with open(self._folder / name, "rb") as stream:
                yield stream
        except OSError as error:
            raise BundleError(f"`{self._folder / name}` cannot be read ({error.strerror or error}).") from error


class _Zip:
    def __init__(self, path: str) -> None:
        self.path = path
        try:
            with zipfile.ZipFile(path) as archive:
                members = archive.infolist()
        except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
            raise damaged(path, f"the zip cannot be read ({error})") from error
        if len(members) > _MAX_MEMBERS:
            raise damaged(path, f"the zip has {len(members):,} members")
        self._sizes = {member.filename: member.file_size for member in members}
        homes = [name[: -len(INFO)] for name in self._sizes if name == INFO or name.endswith(f"/{INFO}")]
        if len(homes) != 1:
            raise BundleError(
                f"`{path}` holds {len(homes)} bundles; exactly one `{INFO}` is expected.", hint="zip one bundle folder"
            )
        self._home = homes[0]

    def size(self, name: str) -> int:
        size = self._sizes.get(self._home + name)
        if size is None:
            raise damaged(self.path, f"`{name}` is missing")
        return size

    @contextmanager
    def open(self, name: str) -> Iterator[IO[bytes]]:
        self.size(name)
        try:
            with zipfile.ZipFile(self.path) as archive, archive.open(self._home + name) as stream:
                yield stream
        except BundleError:
            raise
        except (
            Exception
        ) as error:  # zlib.error, BadZipFile, EOFError, RuntimeError (encrypted), NotImplementedError ...
            raise damaged(self.path, f"`{name}` cannot be unpacked ({error})") from error
