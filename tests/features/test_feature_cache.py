"""Test the feature cache: shards are complete or absent after every failure."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from headstart.errors import CacheError
from headstart.store.feature_cache import FeatureCache, FeatureSpace, cache_info, clear_cache


def rows(count: int, start: int = 0) -> tuple[list[bytes], dict[str, np.ndarray]]:
    digests = [hashlib.sha256(str(start + i).encode()).digest() for i in range(count)]
    values = np.arange(start, start + count, dtype=np.float32)[:, None]
    return digests, {"a": np.repeat(values, 3, axis=1), "b": np.repeat(values, 5, axis=1)}


def test_put_and_get(tmp_path: Path) -> None:
    digests, blocks = rows(10)
    assert FeatureSpace(tmp_path / "s").put(digests, blocks)
    again = FeatureSpace(tmp_path / "s")
    assert len(again) == 10
    cached_rows = again.get(digests[7])
    assert cached_rows is not None
    np.testing.assert_array_equal(cached_rows["b"], blocks["b"][7])
    assert again.get(b"x" * 32) is None


def test_spaces_are_separate() -> None:
    cache = FeatureCache(Path("unused"))
    folders = {cache.space(g, s, v).folder for g in "ab" for s in "cd" for v in ("plain", "flipped")}
    assert len(folders) == 8


@pytest.mark.parametrize("keep_bytes", [0, 50, -30])
def test_damaged_shard_is_deleted(tmp_path: Path, keep_bytes: int) -> None:
    space = FeatureSpace(tmp_path)
    space.put(*rows(10))
    space.put(*rows(10, start=100))
    victim = sorted(tmp_path.glob("*.npz"))[0]
    victim.write_bytes(victim.read_bytes()[:keep_bytes])
    assert len(FeatureSpace(tmp_path)) == 10
    assert not victim.exists()


def test_flipped_bit_is_detected(tmp_path: Path) -> None:
    FeatureSpace(tmp_path).put(*rows(10))
    victim = next(tmp_path.glob("*.npz"))
    data = bytearray(victim.read_bytes())
    position = data.find(np.float32(7).tobytes() * 3)
    data[position] ^= 1
    victim.write_bytes(data)
    assert len(FeatureSpace(tmp_path)) == 0


def test_merging_keeps_every_row(tmp_path: Path) -> None:
    space = FeatureSpace(tmp_path)
    for start in range(0, 100, 10):
        space.put(*rows(10, start))
    space.merge()
    assert len(list(tmp_path.glob("*.npz"))) == 1
    again = FeatureSpace(tmp_path)
    assert len(again) == 100
    digests, blocks = rows(100)
    np.testing.assert_array_equal(np.stack([again.get(d)["a"] for d in digests]), blocks["a"])  # type: ignore[index]


@pytest.mark.skipif(sys.platform != "linux", reason="/dev/full is Linux's")
def test_full_disk_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    space = FeatureSpace(tmp_path)
    monkeypatch.setattr("headstart.store.feature_cache.np.savez", lambda file, **_: _fill_the_disk())
    assert not space.put(*rows(5))
    assert space.write_error == "the disk is full"
    assert not list(tmp_path.iterdir())


def test_unwritable_folder_is_reported(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    space = FeatureSpace(tmp_path / "file" / "space")
    assert not space.put(*rows(5))
    assert "cannot create" in (space.write_error or "")


def _fill_the_disk() -> None:
    with open("/dev/full", "wb", buffering=0) as full:
        full.write(b"x")


def test_killed_while_writing_leaves_whole_shards(tmp_path: Path) -> None:
    code = (
        "import sys, os, signal, hashlib, numpy as np\n"
        "from pathlib import Path\n"
        "from headstart.store import feature_cache\n"
        "s = feature_cache.FeatureSpace(Path(sys.argv[1]))\n"
        "b = {'a': np.ones((50, 1000), np.float32)}\n"
        "ks = lambda k: [hashlib.sha256(f'{k}-{i}'.encode()).digest() for i in range(50)]\n"
        "s.put(ks(0), b)\n"
        "import headstart.utils.system as m\n"
        "m.os.replace = lambda *a: os.kill(os.getpid(), signal.SIGKILL)\n"
        "s.put(ks(1), b)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False)
    assert done.returncode != 0
    assert len(FeatureSpace(tmp_path)) == 50


def test_bounded_in_size_oldest_first(tmp_path: Path) -> None:
    cache = FeatureCache(tmp_path, limit_bytes=6000)
    for age, name in enumerate("abc"):
        space = cache.space(name, "s")
        space.put(*rows(40))
        os.utime(space.folder, (1000 + age, 1000 + age))
    cache.bound()
    assert len(cache.space("a", "s")) == 0
    assert len(cache.space("c", "s")) == 40


def test_info_and_clear(tmp_path: Path) -> None:
    FeatureCache(tmp_path).space("g", "s").put(*rows(10))
    (info,) = cache_info(tmp_path)
    assert (info.name, info.num_files) == ("features", 1)
    assert clear_cache(tmp_path, "graphs") == 0
    assert clear_cache(tmp_path) == info.size_bytes
    assert not cache_info(tmp_path)


def test_undeletable_files_are_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    FeatureCache(tmp_path).space("g", "s").put(*rows(10))
    (file,) = tmp_path.rglob("*.npz")

    def refuse(path: str, *, dir_fd: int | None = None) -> None:
        raise PermissionError(1, "Operation not permitted", path)

    monkeypatch.setattr(os, "unlink", refuse)
    with pytest.raises(CacheError, match=f"{file}.*Operation not permitted"):
        clear_cache(tmp_path)
