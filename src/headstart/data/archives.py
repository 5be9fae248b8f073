"""Unpack a .zip of images into a private cache folder, never next to the data.

Only images and tables are unpacked, under checked names, and the limit on their total size is
enforced while writing, whatever sizes the archive states.
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
from headstart.types.records import Problem
from headstart.utils.system import atomic_folder, cache_root, private_folder

__all__ = ["MAX_UNPACKED_BYTES", "unpack"]

MAX_UNPACKED_BYTES = 20 << 30
"""Larger archives are refused."""

_MAX_RATIO = 200  # images barely compress; text and zip bombs do
_ARCHIVES = (".zip", ".tar", ".gz", ".tgz", ".7z", ".rar", ".bz2", ".xz")
_MAX_MEMBERS = 2_000_000
_NAME_ERRORS = (errno.ENAMETOOLONG, errno.EINVAL, errno.EILSEQ, errno.ENOTDIR, errno.EISDIR)


def unpack(path: str, *, max_bytes: int = MAX_UNPACKED_BYTES) -> tuple[str, list[Problem]]:
    """Unpack an archive into the cache; an archive that is already unpacked is reused.

    Args:
        path: A .zip file.
        max_bytes: Limit on the total size of the unpacked files.

    Returns:
        The folder with the unpacked files, and the members that could not be unpacked.

    Raises:
        DataError: The archive is not a zip, encrypted or too large, or a member would escape its folder.
        CacheError: The cache folder is full or not writable.
    """
    shown = printable(os.path.basename(path))
    try:
        with zipfile.ZipFile(path) as archive:
            members = _members(archive, shown)
            total = sum(m.file_size for m in members)
            if total > max_bytes or total > max(1 << 30, _MAX_RATIO * os.path.getsize(path)):
                raise DataError(
                    f"`{shown}` would unpack to {total / 1e9:.1f} GB, which exceeds the limit.",
                    hint="if you trust it, unpack it yourself and pass the folder",
                )
            key = hashlib.sha256()
            for m in members:
                key.update(f"{m.filename}\0{m.CRC}\0{m.file_size}\0".encode("utf-8", "surrogatepass"))
            cache = private_folder(cache_root() / "unpacked")
            target = cache / key.hexdigest()[:32]
            if not target.is_dir():
                if shutil.disk_usage(cache).free < total * 1.02:
                    raise CacheError(
                        f"`{shown}` needs {total / 1e9:.1f} GB, more than is free in the cache folder `{cache}`.",
                        hint="free some disk space, or choose another cache folder: HEADSTART_CACHE=/some/folder",
                    )
                with atomic_folder(target) as temporary:
                    _unpack_all(archive, members, temporary, max_bytes)
    except (zipfile.BadZipFile, OSError, NotImplementedError) as error:
        raise DataError(f"cannot unpack `{shown}` ({error}).", hint="download or create the archive again") from error
    rows = json.loads((target / "problems.json").read_text(encoding="utf-8"))
    return str(target / "files"), [Problem(*p) for p in rows]


def _members(archive: zipfile.ZipFile, shown: str) -> list[zipfile.ZipInfo]:
    """Return the checked members to unpack.

    Raises:
        DataError: A member would escape its folder or is encrypted, or there are too many members.
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
                f"`{shown}` has a member outside its folder: `{printable(info.filename)}`.",
                hint="do not trust this archive",
            )
        if info.flag_bits & 0x1:
            raise DataError(f"`{shown}` is password-protected.", hint="unpack it yourself and pass the folder")
        if stat.S_ISLNK(info.external_attr >> 16) or not all(parts):
            continue
        extension = os.path.splitext(name)[1].lower()
        if extension in IMAGES or extension in TABLES or extension in EXPORT_STEPS or extension not in PLAIN:
            chosen.append(info)
    inner = [i.filename for i in infos if os.path.splitext(i.filename)[1].lower() in _ARCHIVES]
    if inner and not any(os.path.splitext(i.filename)[1].lower() in IMAGES for i in chosen):
        names = ", ".join(f"`{printable(name)}`" for name in inner[:4])
        raise DataError(f"`{shown}` contains archives and no images: {names}.", hint="unpack them, and pass the folder")
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
        destination = files / name
        if os.path.splitext(name)[1].lower() in EXPORT_STEPS:  # reported by `walk_files`; its bytes are not needed
            destination.parent.mkdir(parents=True, exist_ok=True)
            destination.touch()
            continue
        try:
            destination.parent.mkdir(parents=True, exist_ok=True)
            with archive.open(info) as source, open(destination, "xb") as sink:
                while chunk := source.read(1 << 20):
                    written += len(chunk)
                    if written > max_bytes:
                        raise DataError("the archive unpacks to more than its stated size.", hint="unpack it yourself")
                    sink.write(chunk)
        except FileExistsError:
            problems.append((printable(name), "duplicate-member", "the archive holds two files with this name"))
        except OSError as error:
            if error.errno not in _NAME_ERRORS:  # e.g. a full disk
                raise
            problems.append((printable(name), "name", f"invalid file name on this system ({error.strerror})"))
        except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
            destination.unlink(missing_ok=True)
            problems.append((printable(name), "damaged", f"damaged archive member ({error})"))
    (folder / "problems.json").write_text(json.dumps(problems), encoding="utf-8")
