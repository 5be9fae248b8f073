"""Unpack archives of images into a private cache folder, never next to the data.

Zip and tar archives are unpacked under checked names, and the limit on their total size is enforced while
writing, whatever sizes an archive states. Several archives, and archives in archives, become folders of one tree,
each named after its file, as if a user had unpacked them in place.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import stat
import sys
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import IO, Any, TypeAlias

from headstart.data.archive_names import NameEncoding, guess_encoding
from headstart.data.containers.store import MAX_BYTES, UNPACKED, drop_unused
from headstart.data.file_tree import LocatedFile, printable
from headstart.data.formats import EXPORT_STEPS, TAR
from headstart.errors import CacheError, DataError
from headstart.types.codes import ReadingKind, ReadingNote
from headstart.types.records import Problem
from headstart.utils.system import atomic_folder, cache_root, file_digest, private_folder

__all__ = ["Unpacked", "archive_stem", "is_unsupported_archive", "member_names", "unpack"]

_UNSUPPORTED = (".gz", ".7z", ".rar", ".bz2", ".xz", ".zst")
_MAX_RATIO = 200  # images barely compress; text and zip bombs do
_MAX_MEMBERS = 2_000_000
_NAME_ERRORS = (errno.ENAMETOOLONG, errno.EINVAL, errno.EILSEQ, errno.ENOTDIR, errno.EISDIR)
_DAMAGED = (zipfile.BadZipFile, tarfile.TarError, zlib.error, EOFError, NotImplementedError)


@dataclass
class Unpacked:
    """A folder to read, by itself or unpacked from archives.

    Attributes:
        folder: The folder.
        shown: Name of the archives in messages.
        problems: Members that could not be unpacked.
        notes: Assumptions about their names.
        depth: Number of archives around the folder.
    """

    folder: str
    shown: str = ""
    problems: list[Problem] = field(default_factory=list)
    notes: list[ReadingNote] = field(default_factory=list)
    depth: int = 0


@dataclass(frozen=True, slots=True)
class _Member:
    """One file of an archive: name with `/`, size in bytes, a checksum or an empty text, and its content."""

    name: str
    size: int
    checksum: str
    open: Callable[[], IO[bytes]]


def is_unsupported_archive(name: str) -> bool:
    """Return whether a file name is that of an archive that has to be unpacked by the user."""
    return name.lower().endswith(_UNSUPPORTED) and not name.lower().endswith(TAR)


def archive_stem(name: str) -> str:
    """Return the file name of an archive without its extensions."""
    ending = max((e for e in (".zip", *TAR) if name.lower().endswith(e)), key=len, default="")
    return name[: len(name) - len(ending)] if ending else name


def member_names(archive: LocatedFile) -> list[str]:
    """Return the names of the files in an archive.

    Raises:
        DataError: It is not an archive, encrypted, or a member would escape its folder.
    """
    name = printable(archive.file)
    with _opened(archive.path, name) as opened:
        return [member.name for member in _members(opened, name, None)[0]]


def unpack(
    archives: Sequence[LocatedFile],
    others: Iterable[LocatedFile] = (),
    *,
    linked: Sequence[LocatedFile] = (),
    max_bytes: int = MAX_BYTES,
    name_encoding: str | None = None,
    shown: str = "",
) -> Unpacked:
    """Unpack archives into the cache; archives that are already unpacked are reused.

    Args:
        archives: Zip and tar files. A single one is unpacked into the folder itself if there are no `others`, each of
            several into a folder with its name.
        others: Files that are copied to the same places.
        linked: Images that are linked (or copied where that fails), known by size and time of change.
        max_bytes: Limit on the total size of the unpacked files.
        name_encoding: Encoding of names that are not UTF-8; None guesses it.
        shown: Name of the archives in messages.

    Raises:
        DataError: A file is not an archive, encrypted or too large, or a member would escape its folder.
        CacheError: The cache folder is full or not writable.
    """
    kept = list(others)
    is_single = len(archives) == 1 and not kept and not linked
    key, total, notes = hashlib.sha256(repr((is_single, name_encoding)).encode()), 0, []
    for archive in archives:
        name = printable(archive.file)
        with _opened(archive.path, name) as opened:
            members, encoding = _members(opened, name, name_encoding)
            total += sum(m.size for m in members)
            _check_total(total, archive.path, name, max_bytes)
            checksums = [f"{m.name}\0{m.checksum}\0{m.size}" for m in members]
            if not all(m.checksum for m in members):
                checksums.append(file_digest(archive.path))
            key.update("\0".join((archive.name, *checksums)).encode("utf-8", "surrogatepass"))
            notes += _encoding_notes(name, encoding, members)
    for file in kept:
        key.update(f"{file.name}\0{file_digest(file.path)}".encode("utf-8", "surrogatepass"))
    for file in linked:
        stat = os.stat(file.path)
        key.update(f"{file.path}\0{stat.st_size}\0{stat.st_mtime_ns}".encode("utf-8", "surrogatepass"))
    cache = private_folder(cache_root() / UNPACKED)
    target = cache / key.hexdigest()[:32]
    if not (target / "problems.json").is_file():
        _check_disk(cache, total, printable(archives[0].file))
        try:
            with atomic_folder(target) as temporary:
                _unpack_all(archives, kept, temporary, _Limits(max_bytes, name_encoding, is_single))
                _link_all(linked, temporary / "files")
        except OSError as error:
            raise DataError(
                f"cannot unpack `{shown}` ({error}).", hint="free some disk space, or unpack it yourself"
            ) from error
    os.utime(target)
    rows = json.loads((target / "problems.json").read_text(encoding="utf-8"))
    if not is_single:
        names = tuple(archive.name for archive in archives)
        notes.append(ReadingNote(ReadingKind.ARCHIVES_UNPACKED, len(names), names[:5]))
    return Unpacked(str(target / "files"), shown, [Problem(*p) for p in rows], notes)


def _check_total(total: int, path: str, shown: str, max_bytes: int) -> None:
    """Raise an error if an archive would unpack to too many bytes.

    Raises:
        DataError: It would.
    """
    if total > max_bytes or total > max(1 << 30, _MAX_RATIO * os.path.getsize(path)):
        raise DataError(
            f"`{shown}` would unpack to {total / 1e9:.1f} GB, which exceeds the limit.",
            hint="if you trust it, unpack it yourself and pass the folder",
        )


def _check_disk(cache: Path, total: int, shown: str) -> None:
    """Make room in the cache folder.

    Raises:
        CacheError: The disk is too full.
    """
    drop_unused(cache)
    if shutil.disk_usage(cache).free < total * 1.02:
        raise CacheError(
            f"`{shown}` needs {total / 1e9:.1f} GB, more than is free in the cache folder `{cache}`.",
            hint="free some disk space, or choose another cache folder: HEADSTART_CACHE=/some/folder",
        )


_Archive: TypeAlias = "zipfile.ZipFile | tarfile.TarFile"


def _opened(path: str, shown: str) -> _Archive:
    """Open an archive.

    Raises:
        DataError: The file is not one.
    """
    try:
        return zipfile.ZipFile(path) if path.lower().endswith(".zip") else tarfile.open(path, "r:*")
    except (*_DAMAGED, OSError) as error:
        raise DataError(f"cannot unpack `{shown}` ({error}).", hint="download or create the archive again") from error


def _members(archive: _Archive, shown: str, name_encoding: str | None) -> tuple[list[_Member], NameEncoding | None]:
    """Return the checked files of an archive, and the encoding of names that are not declared to be UTF-8.

    Raises:
        DataError: A member would escape its folder or is encrypted, or there are too many members.
    """
    try:
        found = list(_zip_members(archive, shown) if isinstance(archive, zipfile.ZipFile) else _tar_members(archive))
    except (*_DAMAGED, OSError) as error:
        raise DataError(f"cannot unpack `{shown}` ({error}).", hint="download or create the archive again") from error
    if len(found) > _MAX_MEMBERS:
        raise DataError(f"`{shown}` has {len(found):,} members, more than {_MAX_MEMBERS:,}.")
    unknown = [raw for _, raw in found if raw is not None]
    encoding = None
    if unknown:
        encoding = NameEncoding(name_encoding, True) if name_encoding else guess_encoding(unknown)
    members = []
    for member, raw in found:
        text = raw.decode(encoding.name, "replace") if raw is not None and encoding is not None else member.name
        name = text.replace("\\", "/").removeprefix("./")
        parts = name.split("/")
        if name.startswith("/") or ".." in parts or (len(parts[0]) == 2 and parts[0][1] == ":") or "\0" in name:
            raise DataError(
                f"`{shown}` has a member outside its folder: `{printable(name)}`.", hint="do not trust this archive"
            )
        if all(parts):
            members.append(replace(member, name=name))
    return members, encoding


def _zip_members(archive: zipfile.ZipFile, shown: str) -> Iterator[tuple[_Member, bytes | None]]:
    """Yield the files of a zip archive; the bytes of a name whose encoding is not stated."""
    for info in archive.infolist():
        if info.is_dir() or stat.S_ISLNK(info.external_attr >> 16):
            continue
        if info.flag_bits & 0x1:
            raise DataError(f"`{shown}` is password-protected.", hint="unpack it yourself and pass the folder")
        name, raw = info.filename, None
        if not info.flag_bits & 0x800 and not name.isascii():
            name = _unicode_path(info.extra) or name
            raw = info.filename.encode("cp437") if name == info.filename else None
        yield _Member(name, info.file_size, f"{info.CRC:08x}", partial(archive.open, info)), raw


def _unicode_path(extra: bytes) -> str | None:
    """Return the name of the Unicode Path field (Info-ZIP, 0x7075), or None."""
    while len(extra) >= 4:
        kind, size = int.from_bytes(extra[:2], "little"), int.from_bytes(extra[2:4], "little")
        if kind == 0x7075 and size > 5:
            try:
                return extra[9 : 4 + size].decode("utf-8")
            except UnicodeDecodeError:
                return None
        extra = extra[4 + size :]
    return None


def _tar_members(archive: tarfile.TarFile) -> Iterator[tuple[_Member, bytes | None]]:
    for info in archive.getmembers():
        if not info.isfile():
            continue
        raw = info.name.encode("utf-8", "surrogateescape")
        is_utf8 = not any("\udc80" <= c <= "\udcff" for c in info.name)

        def open_file(info: tarfile.TarInfo = info) -> IO[bytes]:
            file = archive.extractfile(info)
            assert file is not None
            return file

        yield _Member(info.name, info.size, "", open_file), None if is_utf8 else raw


def _encoding_notes(shown: str, encoding: NameEncoding | None, members: Sequence[_Member]) -> list[ReadingNote]:
    """Return a note on a guessed encoding, with decoded names."""
    if encoding is None or encoding.is_certain:
        return []
    names = dict.fromkeys(part for m in members for part in m.name.split("/") if not part.isascii())
    evidence = {"file": shown, **{k: v for k, v in asdict(encoding).items() if k != "is_certain"}}
    return [ReadingNote(ReadingKind.ARCHIVE_NAMES_DECODED, len(names), tuple(names)[:5], evidence)]


@dataclass(frozen=True, slots=True)
class _Limits:
    """How archives are unpacked; see `unpack`."""

    max_bytes: int
    name_encoding: str | None
    is_single: bool


def _unpack_all(archives: Sequence[LocatedFile], others: Sequence[LocatedFile], folder: Path, limits: _Limits) -> None:
    """Write the members of archives, and copies of other files, below `files`."""
    problems: list[tuple[str, str, str]] = []
    files = folder / "files"
    files.mkdir()
    written = 0
    for located in archives:
        prefix = () if limits.is_single else (*located.folders, archive_stem(located.file))
        shown = printable(located.file)
        with _opened(located.path, shown) as archive:
            members, _ = _members(archive, shown, limits.name_encoding)
            if {m.name.split("/")[0] for m in members} == set(prefix[-1:]):  # the archive has a folder of its name
                prefix = prefix[:-1]
            for member in members:
                name = "/".join((*prefix, member.name))
                written += _unpack_member(member, name, files, limits.max_bytes - written, problems)
    for file in others:
        destination = files.joinpath(*file.folders, file.file)
        destination.parent.mkdir(parents=True, exist_ok=True)
        if os.path.splitext(file.file)[1].lower() in EXPORT_STEPS:
            destination.touch()
        else:
            shutil.copyfile(file.path, destination)
    (folder / "problems.json").write_text(json.dumps(problems), encoding="utf-8")


def _link_all(images: Sequence[LocatedFile], folder: Path) -> None:
    """Link images to the same places below a folder; copy those that cannot be linked, as on another disk."""
    for file in images:
        destination = folder.joinpath(*file.folders, file.file)
        destination.parent.mkdir(parents=True, exist_ok=True)
        if destination.exists():
            continue
        try:
            os.link(os.path.realpath(file.path), destination)
        except OSError:
            shutil.copyfile(file.path, destination)


def _unpack_member(member: _Member, name: str, files: Path, max_bytes: int, problems: list[Any]) -> int:
    """Write one member; returns its number of bytes.

    Raises:
        DataError: It has more than `max_bytes` bytes.
    """
    if sys.platform == "win32":
        name = "".join("_" if c in '<>:"|?*' or ord(c) < 32 else c for c in name)
    destination = files / name
    written = 0
    try:
        destination.parent.mkdir(parents=True, exist_ok=True)
        if os.path.splitext(name)[1].lower() in EXPORT_STEPS:  # reported by `walk_files`; its bytes are not needed
            destination.touch()
            return 0
        with member.open() as source, open(destination, "xb") as sink:
            while chunk := source.read(1 << 20):
                written += len(chunk)
                if written > max_bytes:
                    raise DataError("the archive unpacks to more than its stated size.", hint="unpack it yourself")
                sink.write(chunk)
    except FileExistsError:
        problems.append((printable(name), "duplicate-member", "the archive holds two files with this name"))
    except _DAMAGED as error:
        destination.unlink(missing_ok=True)
        problems.append((printable(name), "damaged", f"damaged archive member ({error})"))
    except OSError as error:
        if error.errno not in _NAME_ERRORS:  # e.g. a full disk
            raise
        problems.append((printable(name), "name", f"invalid file name on this system ({error.strerror})"))
    return written
