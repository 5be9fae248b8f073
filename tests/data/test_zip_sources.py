"""Test reading images and labels from zip archives."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

import pytest
from reading import put

from headstart.data.sources import read
from headstart.errors import DataError, HeadstartError


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HEADSTART_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_zip_is_unpacked_once_into_the_cache(tmp_path: Path, cache: Path) -> None:
    put(tmp_path / "src", "a/1.png", "b/2.png")
    archive = tmp_path / "data" / "photos.zip"
    archive.parent.mkdir()
    with zipfile.ZipFile(archive, "w") as file:
        for name in ("a/1.png", "b/2.png"):
            file.write(tmp_path / "src" / name, f"photos/{name}")
        file.writestr("photos/model.pkl", b"never unpacked")
        file.writestr("__MACOSX/photos/a/._1.png", b"x")
    samples = read(archive)
    assert samples.class_names == ("a", "b")
    assert all(Path(p).is_relative_to(cache) for p in samples.paths)
    assert os.listdir(archive.parent) == ["photos.zip"]
    assert all(p.stat().st_size == 0 for p in cache.rglob("*.pkl"))
    assert read(archive).paths == samples.paths


@pytest.mark.parametrize(
    "files",
    [
        {"notes.txt": "x"},
        {"t.csv": "image,label\na/1.png,b\nb/2.png,a\n"},
    ],
    ids=["no image", "table against folders"],
)
def test_zip_errors_contain_the_zip_and_not_the_cache(tmp_path: Path, cache: Path, files: dict[str, str]) -> None:
    put(tmp_path / "src", "a/1.png", "b/2.png")
    archive = tmp_path / "photos.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for name, text in files.items():
            file.writestr(name, text)
        for name in ("a/1.png", "b/2.png") if "notes.txt" not in files else ():
            file.write(tmp_path / "src" / name, name)
    with pytest.raises(HeadstartError) as caught:
        read(archive)
    text = f"{caught.value.message} {caught.value.hint}"
    assert str(cache) not in text
    assert str(archive) in text or "--table t.csv" in text


@pytest.mark.parametrize("name", ["../evil.png", "/evil.png", "a/../../evil.png", "C:/evil.png", "..\\evil.png"])
def test_zip_members_never_escape(tmp_path: Path, cache: Path, name: str) -> None:
    with zipfile.ZipFile(tmp_path / "z.zip", "w") as file:
        file.writestr(name, b"x")
    with pytest.raises(DataError, match="member"):
        read(tmp_path / "z.zip")
    assert not list(tmp_path.rglob("evil.png"))


def test_archives_in_a_zip_are_named(tmp_path: Path, cache: Path) -> None:
    with zipfile.ZipFile(tmp_path / "z.zip", "w") as file:
        file.writestr("train.zip", b"x")
        file.writestr("labels.csv", "id,label\n1,a\n")
    with pytest.raises(DataError, match=r"`train\.zip`"):
        read(tmp_path / "z.zip")


def test_damaged_zip_and_zip_bomb(tmp_path: Path, cache: Path) -> None:
    (tmp_path / "z.zip").write_bytes(b"PK\x03\x04 no more")
    with pytest.raises(DataError, match="unpack"):
        read(tmp_path / "z.zip")
    with zipfile.ZipFile(tmp_path / "b.zip", "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("a/1.png", bytes(1 << 20))
    data = bytearray((tmp_path / "b.zip").read_bytes())
    place = data.rindex(b"PK\x01\x02") + 24  # the size in the central directory
    data[place : place + 4] = (2_000_000_000).to_bytes(4, "little")
    (tmp_path / "b.zip").write_bytes(data)
    with pytest.raises(DataError, match="GB"):
        read(tmp_path / "b.zip")


def test_invalid_member_names_are_reported_and_others_kept(tmp_path: Path, cache: Path) -> None:
    put(tmp_path / "src", "1.png")
    data = (tmp_path / "src" / "1.png").read_bytes()
    with zipfile.ZipFile(tmp_path / "z.zip", "w") as file:
        file.writestr("a/1.png", data)
        file.writestr("b/2.png", data)
        file.writestr(f"b/{'n' * 300}.png", data)
        file.writestr("a/1.png/3.png", data)  # below a file
    samples = read(tmp_path / "z.zip")
    assert samples.names == ["a/1.png", "b/2.png"]
    assert {p.name[-7:]: p.kind for p in samples.problems} == {"nnn.png": "name", "g/3.png": "duplicate-member"}


def test_zip_problems_are_reported_for_the_zip(tmp_path: Path, cache: Path) -> None:
    put(tmp_path / "src", "1.png")
    with zipfile.ZipFile(tmp_path / "none.zip", "w"):
        pass
    with zipfile.ZipFile(tmp_path / "flat.zip", "w") as file:
        file.write(tmp_path / "src" / "1.png", "1.png")
        file.writestr("labels.csv", "image,label\n/etc/x.png,a\n")
    for name in ("none.zip", "flat.zip"):
        with pytest.raises(HeadstartError) as caught:
            read(tmp_path / name)
        assert str(cache) not in caught.value.message + (caught.value.hint or "")
    with pytest.raises(DataError, match=r"none\.zip`"):
        read(tmp_path / "none.zip")


def test_full_disk_stops_unpacking(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path / "src", "1.png")
    with zipfile.ZipFile(tmp_path / "z.zip", "w") as file:
        file.write(tmp_path / "src" / "1.png", "a/1.png")

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("headstart.data.archives.open", full, raising=False)
    with pytest.raises(DataError, match="No space left"):
        read(tmp_path / "z.zip")
    assert not [p for p in cache.rglob("*") if p.is_file()]  # no partial folder is left
    monkeypatch.undo()


def test_damaged_member_is_reported_and_others_kept(tmp_path: Path, cache: Path) -> None:
    put(tmp_path / "src", "1.png")
    with zipfile.ZipFile(tmp_path / "z.zip", "w") as file:
        file.write(tmp_path / "src" / "1.png", "a/1.png")
        file.write(tmp_path / "src" / "1.png", "b/2.png")
        offset = file.getinfo("b/2.png").header_offset
    data = bytearray((tmp_path / "z.zip").read_bytes())
    data[offset + 60] ^= 0xFF
    (tmp_path / "z.zip").write_bytes(data)
    samples = read(tmp_path / "z.zip")
    assert samples.names == ["a/1.png"]
    assert [(p.name, p.kind) for p in samples.problems] == [("b/2.png", "damaged")]
