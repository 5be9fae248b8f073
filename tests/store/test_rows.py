"""Test the row store: shards are complete or absent after every failure, bounded by least recent use, and merged."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from headstart.errors import CacheError
from headstart.store import cache as cache_module
from headstart.store import rows as rows_module
from headstart.store.arrays import ArrayRows, RowLayout
from headstart.store.cache import Cache, cache_info, clear_cache, row_key
from headstart.store.rows import RowStore
from headstart.utils.locks import FolderLock

Row = np.ndarray[Any, np.dtype[np.uint8]]


def rows_of(*sizes: int, start: int = 0) -> dict[bytes, Row]:
    """Return a random row of each size; the position is the key."""
    return {
        row_key(b"", str(start + i)): np.random.default_rng(start + i).integers(0, 256, size).astype(np.uint8)
        for i, size in enumerate(sizes)
    }


def files_in(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.rows"))


def assert_stored(folder: Path, rows: dict[bytes, Row]) -> None:
    store = RowStore(folder)
    for key, row in rows.items():
        np.testing.assert_array_equal(store.get(key), row)


@pytest.mark.parametrize("sizes", [(5, 0, 7001), (3 << 20, 10), (1,)])  # read and mapped shards
def test_rows_of_any_length_come_back(sizes: tuple[int, ...], tmp_path: Path) -> None:
    rows = rows_of(*sizes)
    assert RowStore(tmp_path).put(rows)
    assert_stored(tmp_path, rows)
    assert len(RowStore(tmp_path)) == len(sizes)
    assert RowStore(tmp_path).get(b"d" * 16) is None


def test_added_rows_are_available_and_written_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
    monkeypatch.setattr(rows_module.time, "monotonic", lambda: now[0])
    store, rows = RowStore(tmp_path), rows_of(*[100] * 12)
    store.shard_rows = 5
    now[0] += 100.0  # the first row comes long after the store was opened
    for i, (key, row) in enumerate(rows.items()):
        store.add({key: row})
        np.testing.assert_array_equal(store.get(key), row)
        assert len(files_in(tmp_path)) == (i + 1) // 5
    now[0] += 11.0
    store.add(rows_of(100, start=100))  # late
    assert len(files_in(tmp_path)) == 3
    assert_stored(tmp_path, {**rows, **rows_of(100, start=100)})


def test_many_added_bytes_are_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows_module, "_SHARD_BYTES", 1000)
    store = RowStore(tmp_path)
    store.add(rows_of(999))
    assert not files_in(tmp_path)
    store.add(rows_of(1, start=1))
    assert_stored(tmp_path, {**rows_of(999), **rows_of(1, start=1)})


def test_rows_of_another_process_are_not_written_again(tmp_path: Path) -> None:
    store = RowStore(tmp_path)
    RowStore(tmp_path).put(rows_of(50, 60))
    assert store.put(rows_of(50, 60))
    assert len(files_in(tmp_path)) == 1
    assert len(store) == 2


def test_shard_with_damaged_row_is_deleted_after_use(tmp_path: Path) -> None:
    rows = rows_of(50, 60)
    one, two = rows
    RowStore(tmp_path).put(rows)
    (path,) = files_in(tmp_path)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    again = RowStore(tmp_path)
    assert again.get(two) is None
    np.testing.assert_array_equal(again.get(one), rows[one])
    assert again.put({two: rows[two]})
    np.testing.assert_array_equal(again.get(two), rows[two])
    assert_stored(tmp_path, {two: rows[two]})


@pytest.mark.parametrize("end", [0, 5, 19, 40, -1])
def test_incomplete_shard_is_deleted(end: int, tmp_path: Path) -> None:
    RowStore(tmp_path).put(rows_of(50, 60))
    (path,) = files_in(tmp_path)
    path.write_bytes(path.read_bytes()[:end])
    assert len(RowStore(tmp_path)) == 0
    assert not path.exists()


@pytest.mark.parametrize("position", [0, 8, 16, 20, 40, 60])  # magic, number, checksum, key, end and checksum of a row
def test_damaged_index_is_detected(position: int, tmp_path: Path) -> None:
    RowStore(tmp_path).put(rows_of(50, 60))
    (path,) = files_in(tmp_path)
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.write_bytes(content)
    assert len(RowStore(tmp_path)) == 0


def test_temporarily_unreadable_shard_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    RowStore(tmp_path).put(rows_of(3 << 20))

    def too_many(*_: Any, **__: Any) -> None:
        raise OSError(24, "Too many open files")

    with monkeypatch.context() as patch:
        patch.setattr(rows_module.mmap, "mmap", too_many)
        assert len(RowStore(tmp_path)) == 0
    assert len(RowStore(tmp_path)) == 1


def test_many_small_shards_are_merged(tmp_path: Path) -> None:
    store, rows = RowStore(tmp_path, Cache(tmp_path)), rows_of(*[100] * 30)
    for key, row in rows.items():
        store.put({key: row})
    assert len(files_in(tmp_path)) <= 8
    for key, row in rows.items():
        np.testing.assert_array_equal(store.get(key), row)
    assert_stored(tmp_path, rows)


def test_large_shards_are_not_merged(tmp_path: Path) -> None:
    store = RowStore(tmp_path)
    for start in range(12):
        store.put(rows_of(3 << 20, start=start))
    assert len(files_in(tmp_path)) == 12


def test_only_one_process_merges(tmp_path: Path) -> None:
    lock = FolderLock(tmp_path)
    assert lock.acquire()
    store, rows = RowStore(tmp_path / "a" / "b", Cache(tmp_path)), rows_of(*[100] * 12)
    for key, row in rows.items():
        assert store.put({key: row})
    assert len(files_in(tmp_path)) == 12
    lock.release()
    assert store.put(rows_of(100, start=100))
    assert len(files_in(tmp_path)) == 1
    assert_stored(tmp_path / "a" / "b", rows)


def test_shards_merged_by_another_process_are_not_merged_again(tmp_path: Path) -> None:
    one, rows = RowStore(tmp_path), rows_of(*[100] * 9)
    for key, row in list(rows.items())[:8]:
        one.put({key: row})
    two = RowStore(tmp_path)
    one.put(dict(list(rows.items())[8:]))
    assert len(files_in(tmp_path)) == 1
    two.put(rows_of(100, start=100))
    assert len(files_in(tmp_path)) == 2
    assert_stored(tmp_path, rows)


@pytest.mark.skipif(sys.platform != "linux", reason="/dev/full is Linux's")
def test_full_disk_is_reported_and_rows_are_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def write(path: Path, rows: Any) -> None:
        with open("/dev/full", "wb", buffering=0) as full:
            full.write(b"x")

    monkeypatch.setattr(rows_module, "_write_shard", write)
    store, rows = RowStore(tmp_path), rows_of(100, 100, 100)
    store.held_bytes = 200
    store.add(rows)
    store.flush()
    assert store.write_error == "the disk is full"
    assert [key in store for key in rows] == [True, True, False]
    store.add(rows_of(100, start=100))
    assert row_key(b"", "100") not in store
    assert not store.put(rows_of(100, start=100))
    assert not list(tmp_path.iterdir())


def test_unwritable_folder_is_reported(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    store = RowStore(tmp_path / "file" / "a", Cache(tmp_path / "file"))
    assert not store.put(rows_of(5))
    assert "cannot create" in (store.write_error or "")


_KILLED = """
import os, signal, sys
from pathlib import Path
import numpy as np
from headstart.store.cache import Cache, row_key
from headstart.store.rows import RowStore
store = RowStore(Path(sys.argv[1]) / "features" / "x", Cache(Path(sys.argv[1])))
number, replace, unlink = int(sys.argv[2]), os.replace, Path.unlink
def counted(function):
    def call(*args, **options):
        global number
        number -= 1
        if number < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*args, **options)
    return call
os.replace, Path.unlink = counted(replace), counted(unlink)
for i in range(12):
    if store.put({row_key(b"", str(i)): np.full(1000, i, dtype=np.uint8)}):
        print(i, flush=True)
"""


@pytest.mark.parametrize("number", [0, 3, 17, 18, 19, 21, 26, 27])  # in writes, in the merge, and after it
def test_killed_at_any_step_keeps_every_written_row(number: int, tmp_path: Path) -> None:
    command = [sys.executable, "-c", _KILLED, str(tmp_path), str(number)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == -9, done.stderr
    store = RowStore(tmp_path / "features" / "x", Cache(tmp_path))
    for i in map(int, done.stdout.split()):
        row = store.get(row_key(b"", str(i)))
        assert row is not None
        np.testing.assert_array_equal(row, i)
    assert store.put(rows_of(100, start=100))


_PROCESS = """
import sys
from pathlib import Path
import numpy as np
from headstart.store.cache import Cache, row_key
from headstart.store.rows import RowStore
root = Path(sys.argv[1])
cache = Cache(root, limit_bytes=int(sys.argv[2]))
for repeat in range(4):
    store = RowStore(cache.folder("features", "x"), cache)
    for i in range(60):
        key = row_key(b"", str(i))
        row = store.get(key)
        if row is None:
            store.put({key: np.full(1000, i, dtype=np.uint8)})
            row = store.get(key)
        assert (row == i).all()
    assert store.write_error in (None, sys.argv[3]), store.write_error
"""


@pytest.mark.parametrize("limit_bytes", [1 << 30, 20_000])
def test_two_processes_at_once(limit_bytes: int, tmp_path: Path) -> None:
    """Both write, merge and delete the same rows; no row is wrong, and the limit holds."""
    reason = "the size limit of the cache, or half of the free disk space, is used"
    code = (
        _PROCESS
        if limit_bytes > 1 << 20
        else _PROCESS.replace("row = store.get(key)\n        assert", "continue\n        assert")
    )
    command = [sys.executable, "-c", code, str(tmp_path), str(limit_bytes), reason]
    both = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    assert [(process.communicate(timeout=60)[1], process.returncode) for process in both] == [("", 0)] * 2
    RowStore(Cache(tmp_path, limit_bytes).folder("features", "x"), Cache(tmp_path, limit_bytes)).put(
        rows_of(1, start=1000)
    )
    assert cache_info(tmp_path)[0].size_bytes <= limit_bytes


def aged(cache: Cache, part: str, name: str, age_s: float, size: int = 1000) -> Path:
    """Return the path of a shard that was last used some time ago."""
    RowStore(cache.folder(part, name)).put(rows_of(size))
    (path,) = files_in(cache.folder(part, name))
    os.utime(path, (1e9 - age_s, 1e9 - age_s))
    return path


def test_least_recently_used_are_deleted_in_all_parts(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    old, middle, new = aged(cache, "features", "a", 30), aged(cache, "scans", "b", 20), aged(cache, "decoded", "c", 10)
    size = old.stat().st_size
    assert RowStore(old.parent).get(row_key(b"", "0")) is not None  # used now
    store = RowStore(cache.folder("activations", "d"), Cache(tmp_path, limit_bytes=3 * size))
    assert store.put(rows_of(900))
    assert [path.exists() for path in (old, middle, new)] == [True, False, True]


def test_shards_in_use_are_not_deleted(tmp_path: Path) -> None:
    cache = Cache(tmp_path, limit_bytes=3000)
    store = RowStore(cache.folder("features", "a"), cache)
    assert store.put(rows_of(1000))
    (path,) = files_in(tmp_path)
    os.utime(path, (1e9, 1e9))
    assert not store.put(rows_of(1000, start=1))
    assert "limit" in (store.write_error or "")
    assert path.exists()


def test_one_folder_fills_at_most_half(tmp_path: Path) -> None:
    cache = Cache(tmp_path, limit_bytes=8000)
    other = aged(cache, "features", "a", 30)
    for start in range(10):
        assert RowStore(cache.folder("decoded"), cache).put(rows_of(1000, start=start))
    assert other.exists()
    assert sum(path.stat().st_size for path in files_in(tmp_path / "decoded")) <= 4000


def test_at_most_half_of_free_space_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache_module, "free_bytes", lambda folder: 1000)
    cache = Cache(tmp_path)
    assert cache.free_bytes() == 500
    assert RowStore(cache.folder("decoded"), cache).put(rows_of(500))
    assert not RowStore(cache.folder("decoded"), cache).put(rows_of(501, start=1))


def test_deleted_rows_stay_readable_where_they_are_open(tmp_path: Path) -> None:
    rows = rows_of(1000, 3 << 20)
    store = RowStore(tmp_path / "features" / "x")
    store.put(rows)
    clear_cache(tmp_path)
    for key, row in rows.items():
        np.testing.assert_array_equal(store.get(key), row)


def test_folders_are_private_and_separate(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    assert len({cache.folder(part, a, b) for part in ("features", "scans") for a in "ab" for b in "cd"}) == 8
    RowStore(cache.folder("features", "a")).put(rows_of(5))
    assert cache.folder("features", "a").stat().st_mode & 0o077 == 0 or os.name == "nt"
    assert row_key(b"a" * 32, "plain") != row_key(b"a" * 32, "flip=0.5/0/1") != row_key(b"b" * 32, "flip=0.5/0/1")


def test_rows_of_arrays(tmp_path: Path) -> None:
    layout = RowLayout(("a", "b"), ((3,), (2, 2)), "float32")
    parts = {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.ones((2, 2, 2), dtype=np.float32)}
    store = ArrayRows.open(Cache(tmp_path), "features", layout, "graph", "spec")
    keys = [row_key(b"", "0"), row_key(b"", "1")]
    store.add(dict(zip(keys, layout.pack(parts), strict=True)))
    store.flush()
    again = ArrayRows.open(Cache(tmp_path), "features", layout, "graph", "spec")
    row = again.get(keys[1])
    assert row is not None
    unpacked = layout.unpack(row[None])
    for name, part in parts.items():
        np.testing.assert_array_equal(unpacked[name][0], part[1])
    assert not len(ArrayRows.open(Cache(tmp_path), "features", RowLayout(("a",), ((7,),), "float32"), "graph", "spec"))


def test_info_and_clear(tmp_path: Path) -> None:
    RowStore(Cache(tmp_path).folder("features", "a")).put(rows_of(10))
    (info,) = cache_info(tmp_path)
    assert (info.name, info.num_files) == ("features", 1)
    assert clear_cache(tmp_path, "graphs") == 0
    assert clear_cache(tmp_path) == info.size_bytes
    assert not cache_info(tmp_path)


def test_undeletable_files_are_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    RowStore(Cache(tmp_path).folder("features", "a")).put(rows_of(10))
    (file,) = files_in(tmp_path)

    def forbid(path: str, *, dir_fd: int | None = None) -> None:
        raise PermissionError(1, "Operation not permitted", path)

    monkeypatch.setattr(os, "unlink", forbid)
    with pytest.raises(CacheError, match=f"{file}.*Operation not permitted"):
        clear_cache(tmp_path)
