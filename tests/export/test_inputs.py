from __future__ import annotations

import io
import os
import sys
from pathlib import Path

import pytest

from headstart.errors import DataError, UsageError
from headstart.inference.inputs import expand_inputs, natural_key
from headstart.types.codes import ReadingKind
from headstart.types.records import Problem


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in [
        "in/p10.jpg",
        "in/p2.JPG",
        "in/sub/a.png",
        "in/.hidden/b.png",
        "in/.c.png",
        "in/notes.txt",
        "in/notes.md",
        "in/[odd] name.webp",
    ]:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def names(*given: str, stdin: bytes = b"") -> list[str]:
    items = expand_inputs(given, stdin=io.BytesIO(stdin))
    return [item.name if isinstance(item, Problem) else item.replace(os.sep, "/") for item in items]


def test_folder_is_in_natural_order(folder: Path) -> None:
    assert names("in") == ["in/[odd] name.webp", "in/p2.JPG", "in/p10.jpg", "in/sub/a.png"]
    (note,) = expand_inputs(["in"]).notes
    assert (note.kind, note.count, note.evidence) == (ReadingKind.OTHER_FILES, 2, {"extensions": {".md": 1, ".txt": 1}})


def test_explicit_file_is_always_tried(folder: Path) -> None:
    assert names("in/notes.md", "in/.c.png", "nothing.jpg") == ["in/notes.md", "in/.c.png", "nothing.jpg"]


def test_list_without_images_raises(folder: Path) -> None:
    with pytest.raises(DataError) as caught:
        names("in/notes.txt")
    assert "notes.txt" in caught.value.message


def test_globs(folder: Path) -> None:
    assert names("in/*.jpg") in (
        ["in/p10.jpg"],
        ["in/p2.JPG", "in/p10.jpg"],
    )  # depends on the case sensitivity of the file system
    assert names("in/**/*.png") == ["in/sub/a.png"]
    assert names("i*") == names("in")
    assert names("in/[[]odd*") == ["in/[odd] name.webp"]
    assert names("in/[odd] name.webp") == ["in/[odd] name.webp"]  # a file with that exact name wins
    with pytest.raises(UsageError, match="matches no file"):
        names("in/*.gif")


def test_list_on_stdin(folder: Path) -> None:
    assert names("-", stdin=b"in/p10.jpg\r\n\nin/sub\n") == ["in/p10.jpg", "in/sub/a.png"]
    assert names("-", stdin=b"\xef\xbb\xbfin/p10.jpg\n") == ["in/p10.jpg"]
    assert names("-", stdin=b"in/p10.jpg\0new\nline.png\0") == ["in/p10.jpg", "new\nline.png"]
    assert names("in/p2.JPG", "-", stdin=b"in/p10.jpg") == ["in/p2.JPG", "in/p10.jpg"]
    with pytest.raises(UsageError, match="only once"):
        names("-", "-")


def test_empty_input_raises(folder: Path) -> None:
    with pytest.raises(DataError, match="no images to predict"):
        names("-", stdin=b"\n")
    (folder / "empty").mkdir()
    with pytest.raises(DataError, match="no images in `empty`"):
        names("empty")
    (folder / "empty" / "x.txt").write_bytes(b"x")
    with pytest.raises(DataError, match="1 other file"):
        names("empty")


def test_unusable_files_keep_their_position(folder: Path) -> None:
    (folder / "in" / "p3.nef").write_bytes(b"x")
    (folder / "in" / "p4.jpg.part").write_bytes(b"x")
    items = expand_inputs(["in"])
    assert [i.name if isinstance(i, Problem) else i for i in items][1:5] == [
        os.path.join("in", n) for n in ("p2.JPG", "p3.nef", "p4.jpg.part", "p10.jpg")
    ]
    assert [i.kind for i in items if isinstance(i, Problem)] == ["foreign-format", "unfinished-download"]


@pytest.mark.skipif(sys.platform == "win32", reason="links need a right there")
def test_external_links_are_reported_and_followed_on_request(folder: Path) -> None:
    (folder / "outside.png").write_bytes(b"x")
    (folder / "in" / "link.png").symlink_to(folder / "outside.png")
    (problem,) = [i for i in expand_inputs(["in"]) if isinstance(i, Problem)]
    assert (problem.kind, problem.name) == ("outside", os.path.join("in", "link.png"))
    assert os.path.join("in", "link.png") in expand_inputs(["in"], allow_external_paths=True).items


@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="file names are Unicode there")
def test_non_unicode_names(folder: Path) -> None:
    raw = os.fsencode(folder / "in") + b"/caf\xe9.png"
    Path(os.fsdecode(raw)).write_bytes(b"x")
    assert os.fsencode(expand_inputs([folder / "in"])[1]) == raw
    assert os.fsencode(expand_inputs(["-"], stdin=io.BytesIO(raw))[0]) == raw


def test_natural_order() -> None:
    given = ["b/1", "a10", "a2/z", "a2", "A1", "a02", "1", "10", "2", "", "ä"]
    assert sorted(given, key=natural_key) == ["", "1", "2", "10", "A1", "a02", "a2", "a2/z", "a10", "b/1", "ä"]
