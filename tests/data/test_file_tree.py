"""Test walking folders with unreadable, special and looping entries."""

import os
import sys
from pathlib import Path

import pytest

from headstart.data.file_tree import printable, walk_files
from headstart.data.sources import read
from headstart.errors import DataError

posix = pytest.mark.skipif(sys.platform == "win32", reason="POSIX file systems only")

PNG = b"\x89PNG\r\n\x1a\n" + b"0" * 20


def put(root: Path, *names: str, data: bytes = PNG) -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


@posix
def test_link_loops_end_and_files_are_listed_once(tmp_path: Path) -> None:
    put(tmp_path, "a/1.png", "b/2.png")
    (tmp_path / "a" / "again").symlink_to(tmp_path)
    (tmp_path / "b" / "self").symlink_to(tmp_path / "b" / "self")
    (tmp_path / "up").symlink_to("..")
    tree = walk_files(str(tmp_path))
    assert [f.name for f in tree.images] == ["a/1.png", "b/2.png"]
    assert {(p.name, p.kind) for p in tree.problems} == {("b/self", "broken-link"), ("up", "outside")}
    (tmp_path / "up").unlink()
    inside = walk_files(str(tmp_path / "a"), allow_external_paths=True)
    assert sorted({os.path.realpath(f.path) for f in inside.images}) == sorted(
        os.path.realpath(tmp_path / n) for n in ("a/1.png", "b/2.png")
    )


@posix
def test_names_with_newlines_and_invalid_utf8(tmp_path: Path) -> None:
    folder = os.fsencode(tmp_path)
    for name in (b"a/one\ntwo.png", b"a/\xff\xfe.png", b"\xe9t\xe9/3.png"):
        os.makedirs(os.path.dirname(os.path.join(folder, name)), exist_ok=True)
        with open(os.path.join(folder, name), "wb") as file:
            file.write(PNG)
    samples = read(tmp_path)
    assert len(samples) == 3
    for sample in samples:
        sample.name.encode("utf-8")
        (sample.label or "").encode("utf-8")
        assert Path(sample.path).read_bytes() == PNG
    assert len(set(samples.names)) == 3
    assert printable("\udcff.png") == r"\xff.png"


@posix
def test_permission_denied_half_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path, "a/1.png", "b/2.png", "secret/3.png")
    scandir = os.scandir

    def guarded(path: str) -> object:
        if str(path).endswith("secret"):
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", guarded)  # root can read everything
    tree = walk_files(str(tmp_path))
    assert [f.name for f in tree.images] == ["a/1.png", "b/2.png"]
    assert [(p.name, p.kind) for p in tree.problems] == [("secret", "permission")]


def test_folder_vanishes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path, "a/1.png", "gone/2.png")
    scandir = os.scandir

    def guarded(path: str) -> object:
        if str(path).endswith("gone"):
            raise FileNotFoundError(2, "No such file or directory")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", guarded)
    assert [(p.name, p.kind) for p in walk_files(str(tmp_path)).problems] == [("gone", "missing")]


def test_unreadable_root_raises(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="none"):
        walk_files(str(tmp_path / "none"))


@posix
def test_pipes_and_broken_links_are_reported(tmp_path: Path) -> None:
    put(tmp_path, "a/1.png")
    os.mkfifo(tmp_path / "a" / "pipe.png")
    (tmp_path / "a" / "dead.png").symlink_to(tmp_path / "a" / "gone.png")
    tree = walk_files(str(tmp_path))
    assert [f.name for f in tree.images] == ["a/1.png"]
    assert {(p.name, p.kind) for p in tree.problems} == {("a/pipe.png", "special"), ("a/dead.png", "broken-link")}


@pytest.mark.parametrize(
    ("name", "kind", "step"),
    [
        ("x.nef", "foreign-format", "JPEG"),
        ("x.CZI", "foreign-format", "TIFF"),
        ("x.nii.gz", "foreign-format", "PNG"),
        ("x.jpg.crdownload", "unfinished-download", "download it again"),
        ("x.png.part", "unfinished-download", "download it again"),
        (".x.jpg.icloud", "cloud-placeholder", "iCloud"),
    ],
)
def test_unusable_files_are_reported_with_fix(tmp_path: Path, name: str, kind: str, step: str) -> None:
    put(tmp_path, f"a/{name}", "a/1.png")
    (problem,) = walk_files(str(tmp_path)).problems
    assert (problem.name, problem.kind) == (f"a/{name}", kind)
    assert step in problem.detail


def test_images_without_extension_are_identified_by_first_bytes(tmp_path: Path) -> None:
    put(tmp_path, "a/image", "a/image.dat2")
    put(tmp_path, "a/notes", data=b"just words")
    tree = walk_files(str(tmp_path))
    assert [f.file for f in tree.images] == ["image", "image.dat2"]
    assert tree.others == {"no extension": 1}


def test_very_deep_folders(tmp_path: Path) -> None:
    deep = tmp_path.joinpath(*["d"] * 60)
    deep.mkdir(parents=True)
    (deep / "1.png").write_bytes(PNG)
    (image,) = walk_files(str(tmp_path)).images
    assert len(image.folders) == 60
