"""Unpacks a .zip of images into a private cache folder, never beside the data.

Only images and tables are unpacked, each under a name that we check ourselves, and a
limit on their total size is kept while writing, whatever the archive claims.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import stat
import sys
import zipfile
import zlib
from pathlib import Path

from headstart.data.file_tree import printable
from headstart.data.formats import EXPORT_STEPS, IMAGES, PLAIN, TABLES
from headstart.errors import CacheError, DataError
from headstart.records import Problem
from headstart.system import atomic_folder, cache_root, private_folder

__all__ = ["MAX_UNPACKED_BYTES", "unpack"]

MAX_UNPACKED_BYTES = 20 << 30
"""An archive that would become larger is refused; unpack it yourself if you trust it."""

_MAX_RATIO = 200  # images hardly shrink; text and bombs do
_MAX_MEMBERS = 2_000_000
_NAME_ERRORS = (errno.ENAMETOOLONG, errno.EINVAL, errno.EILSEQ, errno.ENOTDIR, errno.EISDIR)


def unpack(path: str, *, max_bytes: int = MAX_UNPACKED_BYTES) -> tuple[str, list[Problem]]:
    """Unpack an archive once; the second time the same archive is only looked up.

    Args:
        path: A .zip file.
        max_bytes: What its images may take together.

    Returns:
        The folder they lie in, and the members that could not be unpacked.

    Raises:
        DataError: It is no zip, is encrypted, is too large, or a member would escape.
        CacheError: The cache folder is full or cannot be written.
    """
    shown = printable(os.path.basename(path))
    try:
        with zipfile.ZipFile(path) as archive:
            members = _members(archive, shown)
            total = sum(m.file_size for m in members)
            if total > max_bytes or total > max(1 << 30, _MAX_RATIO * os.path.getsize(path)):
                raise DataError(
                    f"`{shown}` would unpack to {total / 1e9:.1f} GB, more than is allowed.",
                    hint="unpack it yourself if you trust it, and give the folder",
                )
            key = hashlib.sha256()
            for m in members:
                key.update(f"{m.filename}\0{m.CRC}\0{m.file_size}\0".encode("utf-8", "surrogatepass"))
            home = private_folder(cache_root() / "unpacked")
            target = home / key.hexdigest()[:32]
            if not target.is_dir():
                if shutil.disk_usage(home).free < total * 1.02:
                    raise CacheError(
                        f"unpacking `{shown}` needs {total / 1e9:.1f} GB, which the cache folder `{home}` has not.",
                        hint="make room, or name another folder: HEADSTART_CACHE=/some/folder",
                    )
                with atomic_folder(target) as temporary:
                    _unpack_all(archive, members, temporary, max_bytes)
    except (zipfile.BadZipFile, OSError, NotImplementedError) as error:
        raise DataError(f"`{shown}` cannot be unpacked ({error}).", hint="fetch or make the archive again") from error
    listed = json.loads((target / "problems.json").read_text(encoding="utf-8"))
    return str(target / "files"), [Problem(*p) for p in listed]


def _members(archive: zipfile.ZipFile, shown: str) -> list[zipfile.ZipInfo]:
    """Return the members worth unpacking, each checked.

    Raises:
        DataError: A member would escape, is encrypted, or there are too many.
    """
    infos = archive.infolist()
    if len(infos) > _MAX_MEMBERS:
        raise DataError(f"`{shown}` has {len(infos):,} members, more than {_MAX_MEMBERS:,}.")
    chosen = []
    for info in infos:
        if info.is_dir():
            continue
        name = info.filename.replace("\\", "/")
        parts = name.split("/")
        if name.startswith("/") or ".." in parts or (len(parts[0]) == 2 and parts[0][1] == ":") or "\0" in name:
            raise DataError(
                f"`{shown}` has a member that would escape its folder: `{printable(info.filename)}`.",
                hint="do not trust this archive",
            )
        if info.flag_bits & 0x1:
            raise DataError(f"`{shown}` is protected by a password.", hint="unpack it yourself and give the folder")
        if stat.S_ISLNK(info.external_attr >> 16) or not all(parts):
            continue
        extension = os.path.splitext(name)[1].lower()
        if extension in IMAGES or extension in TABLES or extension in EXPORT_STEPS or extension not in PLAIN:
            chosen.append(info)
    return chosen


def _unpack_all(archive: zipfile.ZipFile, members: list[zipfile.ZipInfo], folder: Path, max_bytes: int) -> None:
    problems: list[tuple[str, str, str]] = []
    written = 0
    files = folder / "files"
    files.mkdir()
    for info in members:
        name = info.filename.replace("\\", "/")
        if sys.platform == "win32":
            name = "".join("_" if c in '<>:"|?*' or ord(c) < 32 else c for c in name)
        place = files / name
        if os.path.splitext(name)[1].lower() in EXPORT_STEPS:  # named later by the walk, its bytes are not needed
            place.parent.mkdir(parents=True, exist_ok=True)
            place.touch()
            continue
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            with archive.open(info) as source, open(place, "xb") as sink:
                while chunk := source.read(1 << 20):
                    written += len(chunk)
                    if written > max_bytes:
                        raise DataError("The archive holds more than it says and was refused.")
                    sink.write(chunk)
        except FileExistsError:
            problems.append((printable(name), "duplicate-member", "the archive holds two files of this name"))
        except OSError as error:
            if error.errno not in _NAME_ERRORS:  # a full disk, say
                raise
            problems.append((printable(name), "name", f"this system keeps no file of this name ({error.strerror})"))
        except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
            place.unlink(missing_ok=True)
            problems.append((printable(name), "damaged", f"this member of the archive is damaged ({error})"))
    (folder / "problems.json").write_text(json.dumps(problems), encoding="utf-8")
