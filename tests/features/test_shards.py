"""Test shards of variable-length rows: the oldest are evicted first, readable shards are kept."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from headstart.errors import CacheError
from headstart.store import shards as shards_room
from headstart.store.shards import Shards


def rows_of(*sizes: int) -> list[np.ndarray[Any, np.dtype[np.uint8]]]:
    return [np.random.default_rng(size).integers(0, 256, size).astype(np.uint8) for size in sizes]


def test_rows_of_any_length_come_back(tmp_path: Path) -> None:
    keys, rows = [b"a" * 16, b"b" * 16, b"c" * 16], rows_of(5, 0, 7001)
    assert Shards(tmp_path).put(keys, rows)
    again = Shards(tmp_path)
    assert len(again) == 3
    for key, row in zip(keys, rows, strict=True):
        np.testing.assert_array_equal(again.get(key), row)
    assert again.get(b"d" * 16) is None


def test_shard_with_damaged_row_is_deleted_after_use(tmp_path: Path) -> None:
    Shards(tmp_path).put([b"a" * 16, b"b" * 16], rows_of(50, 60))
    path = next(tmp_path.glob("*.rows"))
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    again = Shards(tmp_path)
    assert again.get(b"b" * 16) is None
    np.testing.assert_array_equal(again.get(b"a" * 16), rows_of(50)[0])
    assert again.put([b"b" * 16], rows_of(60))
    np.testing.assert_array_equal(again.get(b"b" * 16), rows_of(60)[0])
    np.testing.assert_array_equal(Shards(tmp_path).get(b"b" * 16), rows_of(60)[0])


def test_temporarily_unreadable_shard_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Shards(tmp_path).put([b"a" * 16], rows_of(50))

    def too_many(*_: Any, **__: Any) -> None:
        raise OSError(24, "Too many open files")

    with monkeypatch.context() as patch:
        patch.setattr(shards_room.mmap, "mmap", too_many)
        assert len(Shards(tmp_path)) == 0
    assert len(Shards(tmp_path)) == 1


def test_oldest_are_evicted_but_not_those_in_use(tmp_path: Path) -> None:
    for name, age_s in ((b"a", 30), (b"b", 20), (b"c", 10)):
        before = set(tmp_path.glob("*.rows"))
        Shards(tmp_path).put([name * 16], rows_of(1000))
        (path,) = set(tmp_path.glob("*.rows")) - before
        os.utime(path, (1e9 - age_s, 1e9 - age_s))
    user = Shards(tmp_path)
    total = sum(path.stat().st_size for path in tmp_path.glob("*.rows"))
    assert user.get(b"a" * 16) is not None
    assert user.drop_oldest(100, total + 100)
    assert names_in(tmp_path) == [b"a", b"b", b"c"]
    assert user.drop_oldest(100, total)
    assert names_in(tmp_path) == [b"a", b"c"]
    assert not user.drop_oldest(100, 500)
    assert names_in(tmp_path) == [b"a"]


def names_in(folder: Path) -> list[bytes]:
    return [name for name in (b"a", b"b", b"c") if name * 16 in Shards(folder)]


def test_at_most_half_of_free_space_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards_room, "free_bytes", lambda folder: 1000)
    assert Shards(tmp_path).drop_oldest(500, 1 << 30)
    assert not Shards(tmp_path).drop_oldest(501, 1 << 30)


def test_unwritable_folder_only_sets_write_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(folder: Path) -> Path:
        raise CacheError(f"cannot create the cache folder `{folder}`.")

    monkeypatch.setattr(shards_room, "private_folder", refuse)
    some = Shards(tmp_path / "x")
    assert not some.put([b"a" * 16], rows_of(5))
    assert "cannot create" in (some.write_error or "")
