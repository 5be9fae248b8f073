"""Test reading labeled images from every supported layout."""

import json
import os
import sys
import zipfile
from pathlib import Path

import pytest
from reading import info, notes_of, put

from headstart.data.sources import read
from headstart.errors import DataError, HeadstartError, UsageError
from headstart.types.codes import ReadingKind


def test_class_folders(tmp_path: Path) -> None:
    put(tmp_path, "dog/1.png", "cat/b.png", "cat/a.png")
    samples = read(tmp_path)
    assert samples.names == ["cat/a.png", "cat/b.png", "dog/1.png"]
    assert samples.class_names == ("cat", "dog")
    assert samples.class_ids.tolist() == [0, 0, 1]
    assert samples.layout == "class folders"
    assert all(os.path.isabs(p) for p in samples.paths)


@pytest.mark.parametrize(
    ("train", "val", "test"),
    [
        ("train", "val", "test"),
        ("Train", "VAL", "Testing"),
        ("training", "valid", "TEST"),
        ("trn", "Validation", "tst"),
    ],
)
def test_split_folders_in_any_case(tmp_path: Path, train: str, val: str, test: str) -> None:
    put(tmp_path, f"{train}/a/1.png", f"{train}/b/2.png", f"{val}/a/3.png", f"{test}/b/4.png")
    rows = info(read(tmp_path))
    assert [v[1] for _, v in sorted(rows.items(), key=lambda kv: kv[0].rpartition("/")[2])] == [
        "train",
        "train",
        "val",
        "test",
    ]


def test_wrapper_folder_is_skipped(tmp_path: Path) -> None:
    put(tmp_path, "archive/photos/train/a/1.png", "archive/photos/train/b/2.png", "archive/photos/test/a/3.png")
    samples = read(tmp_path)
    assert samples.class_names == ("a", "b")
    assert [s.split for s in samples] == ["test", "train", "train"]


def test_images_directly_in_test_split_are_excluded_with_note(tmp_path: Path) -> None:
    put(tmp_path, "train/a/1.png", "train/b/2.png", "test/3.png", "test/4.png")
    samples = read(tmp_path)
    assert len(samples) == 2
    (note,) = samples.notes
    assert (note.kind, note.count) == (ReadingKind.UNLABELED_IMAGES, 2)
    assert note.evidence == {"folders": {"test/": 2}}
    unlabeled = {s.name: s.split for s in read(tmp_path, task="images") if s.label is None}
    assert unlabeled == {"test/3.png": "test", "test/4.png": "test"}


def test_class_and_group_folders(tmp_path: Path) -> None:
    put(tmp_path, "benign/patient1/1.png", "benign/patient2/1.png", "malign/patient3/1.png", "malign/patient3/2.png")
    assert info(read(tmp_path))["malign/patient3/2.png"] == ("malign", None, "patient3")
    assert read(tmp_path).has_inferred_groups  # the user did not set groups
    assert not read(tmp_path, layout="{label}/{group}/*").has_inferred_groups


def test_repeated_subfolder_names_are_classes(tmp_path: Path) -> None:
    names = [f"patient{i:02}/{kind}/{j}.png" for i in range(6) for kind in ("benign", "malign") for j in range(2)]
    samples = read(put(tmp_path, *names))
    assert samples.class_names == ("benign", "malign")
    assert samples.items[0].group == "patient00"


def test_group_in_two_classes_is_one_group(tmp_path: Path) -> None:
    put(tmp_path, "cat/site1/1.png", "cat/site2/2.png", "dog/site1/3.png", "dog/site2/4.png")
    assert {s.group for s in read(tmp_path)} == {"site1", "site2"}


def test_ambiguous_nested_folders_show_both_layouts(tmp_path: Path) -> None:
    put(tmp_path, *[f"{a}/{b}/{i}.png" for a in ("shirt", "dress") for b in ("indoor", "outdoor") for i in range(3)])
    with pytest.raises(UsageError) as caught:
        read(tmp_path)
    assert "{label}/{group}/*" in str(caught.value)
    assert "{group}/{label}/*" in str(caught.value)
    assert read(tmp_path, layout="{label}/{group}/*").class_names == ("dress", "shirt")
    assert read(tmp_path, layout="{group}/{label}/*").class_names == ("indoor", "outdoor")
    assert {s.group for s in read(tmp_path, layout="*/{label}/*")} == {None}


def test_splits_below_the_classes(tmp_path: Path) -> None:
    put(tmp_path, "cat/train/1.png", "cat/test/2.png", "dog/train/3.png", "dog/test/4.png")
    assert info(read(tmp_path))["dog/test/4.png"] == ("dog", "test", None)


def test_splits_next_to_other_folders_raise(tmp_path: Path) -> None:
    put(tmp_path, "train/a/1.png", "test/a/2.png", "misc/a/3.png")
    with pytest.raises(UsageError, match="`misc`"):
        read(tmp_path)


def test_layout_without_match_raises(tmp_path: Path) -> None:
    put(tmp_path, "p1/train/cat_01.png", "p2/test/dog_02.png")
    rows = info(read(tmp_path, layout="{group}/{split}/{label}_*"))
    assert rows == {"p1/train/cat_01.png": ("cat", "train", "p1"), "p2/test/dog_02.png": ("dog", "test", "p2")}
    with pytest.raises(DataError, match=r"p1/train/cat_01\.png"):
        read(tmp_path, layout="{label}/*")
    with pytest.raises(UsageError, match=r"no \{label\}"):
        read(tmp_path, layout="{group}/*/*")
    with pytest.raises(UsageError, match="unknown field"):
        read(tmp_path, layout="{class}/*/*")


@pytest.mark.parametrize("pattern", ["{label}_*", r"^([a-z]+)_\d+", r"(?P<label>[a-z]+)_"])
def test_label_in_the_file_name(tmp_path: Path, pattern: str) -> None:
    put(tmp_path, "cat_1.png", "dog_2.png", "readme1.png")
    samples = read(tmp_path, label_pattern=pattern)
    assert info(samples) == {"cat_1.png": ("cat", None, None), "dog_2.png": ("dog", None, None)}
    assert notes_of(samples)[ReadingKind.UNLABELED_IMAGES].examples == ("readme1.png",)


def test_invalid_label_pattern_raises(tmp_path: Path) -> None:
    put(tmp_path, "cat_1.png")
    with pytest.raises(UsageError, match="capture group"):
        read(tmp_path, label_pattern="[a-z]+")
    with pytest.raises(UsageError, match="neither a template"):
        read(tmp_path, label_pattern="(")


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
def test_tables_of_spreadsheets(tmp_path: Path, separator: str, encoding: str) -> None:
    put(tmp_path, "pics/ä 1.png", "pics/2.png")
    rows = [
        ("Filename", "Class", "Split", "Group"),
        ("pics/ä 1.png", "Äpfel", "Train", "g"),
        ("pics/2.png", "b", "TEST", ""),
    ]
    (tmp_path / "t.csv").write_text("\r\n".join(separator.join(r) for r in rows), encoding=encoding, newline="")
    samples = read(tmp_path / "t.csv")
    assert info(samples) == {"pics/ä 1.png": ("Äpfel", "train", "g"), "pics/2.png": ("b", "test", None)}
    assert samples.root == str(tmp_path)


@pytest.mark.parametrize("column", ["image", "path", "filename", "file", "file_name", "Image Path"])
@pytest.mark.parametrize("label", ["label", "class", "labels"])
def test_column_names(tmp_path: Path, column: str, label: str) -> None:
    put(tmp_path, "1.png", "2.png")
    (tmp_path / "t.tsv").write_text(f"{label}\t{column}\tpatient\nx\t1.png\tp1\ny\t2.png\tp2\n")
    samples = read(tmp_path / "t.tsv")
    assert samples.class_names == ("x", "y")
    assert samples.columns == {"patient": ("p1", "p2")}


def test_table_keeps_order_and_reports_problems(tmp_path: Path) -> None:
    put(tmp_path, "b.png", "a.png")
    (tmp_path / "t.csv").write_text("image,label\nb.png,x\ngone.png,y\na.png,\na.png,y\nb.png,x\n")
    samples = read(tmp_path / "t.csv")
    assert samples.names == ["b.png", "a.png"]
    assert {(p.name, p.kind) for p in samples.problems} == {("gone.png", "missing"), ("a.png", "no-label")}
    assert notes_of(samples)[ReadingKind.REPEATED_ROWS].count == 1


def test_rows_of_one_image_give_the_majority_label(tmp_path: Path) -> None:
    put(tmp_path, "a.png", "b.png")
    rows = ["a.png,x,r1", "a.png,x,r2", "a.png,y,r3", "b.png,x,r1", "b.png,y,r2"]
    (tmp_path / "t.csv").write_text("image,label,rater\n" + "\n".join(rows))
    samples = read(tmp_path / "t.csv")
    assert info(samples) == {"a.png": ("x", None, None)}
    assert samples.columns == {}  # the rater belongs to the row
    note = notes_of(samples)[ReadingKind.LABELS_BY_MAJORITY]
    assert (note.count, note.examples) == (2, ("b.png",))
    assert note.evidence == {"num_rows": 5, "num_images": 2, "num_tied": 1}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "empty"),
        ("image,label\n", "no rows"),
        ("name,label\nx,y\n", "no image column"),
        ("image,color\n1.png,red\n", "no label column"),
        ("image,label\ngone.png,red\n", "none of 1 row"),
        ("image,label\n1.png,red,blue\n", "line 2 of `t.csv` has 3 cells"),
        ("image,label,split\n1.png,red,third\n", "expected train, val or test"),
    ],
)
def test_unusable_tables_raise(tmp_path: Path, text: str, message: str) -> None:
    put(tmp_path, "1.png")
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(DataError, match=message):
        read(tmp_path / "t.csv")


def test_two_label_columns(tmp_path: Path) -> None:
    put(tmp_path, "1.png", "2.png", "3.png")
    (tmp_path / "t.csv").write_text("image,label,class_name\n1.png,0,cat\n2.png,1,dog\n3.png,0,cat\n")
    assert read(tmp_path / "t.csv").class_names == ("cat", "dog")
    (tmp_path / "t.csv").write_text("image,label,class\n1.png,a,x\n2.png,a,y\n3.png,b,y\n")
    with pytest.raises(UsageError) as caught:
        read(tmp_path / "t.csv")
    assert caught.value.hint == "use --label-column label for (1), --label-column class for (2)"


def test_paths_that_leave_the_folder_are_refused_together(tmp_path: Path) -> None:
    put(tmp_path, "in/1.png", "out/2.png", "out/3.png")
    outside = tmp_path / "out" / "3.png"
    (tmp_path / "in" / "t.csv").write_text(f"image,label\n1.png,a\n../out/2.png,b\n{outside},c\n")
    with pytest.raises(UsageError) as caught:
        read(tmp_path / "in" / "t.csv")
    assert "line 3" in str(caught.value)
    assert "line 4" in str(caught.value)
    samples = read(tmp_path / "in" / "t.csv", allow_external_paths=True)
    assert [s.label for s in samples] == ["a", "b", "c"]


@pytest.mark.skipif(sys.platform == "win32", reason="links need rights there")
def test_links_that_leave_the_folder(tmp_path: Path) -> None:
    put(tmp_path, "in/a/1.png", "in/b/1.png", "out/a/2.png")
    (tmp_path / "in" / "a" / "link.png").symlink_to(tmp_path / "out" / "a" / "2.png")
    (tmp_path / "in" / "c").symlink_to(tmp_path / "out" / "a")
    samples = read(tmp_path / "in")
    assert {(p.name, p.kind) for p in samples.problems} == {("a/link.png", "outside"), ("c", "outside")}
    assert read(tmp_path / "in", allow_external_paths=True).class_names == ("a", "b", "c")
    (tmp_path / "in" / "t.csv").write_text("image,label\na/1.png,x\na/link.png,y\n")
    with pytest.raises(UsageError, match=r"a/link\.png"):
        read(tmp_path / "in" / "t.csv")


def test_unique_file_name_matches(tmp_path: Path) -> None:
    put(tmp_path, "images/1.png", "images/x/2.png", "images/y/2.png")
    (tmp_path / "t.csv").write_text("image_id,label\n1,a\n2.png,b\n")
    samples = read(tmp_path / "t.csv")
    assert samples.names == ["images/1.png"]
    assert [(p.name, p.kind) for p in samples.problems] == [("2.png", "ambiguous")]
    note = notes_of(samples)[ReadingKind.FOUND_ELSEWHERE]
    assert (note.count, note.evidence["pairs"]) == (1, [["1", "images/1.png"]])


def test_hugging_face_metadata(tmp_path: Path) -> None:
    put(tmp_path, "train/1.png", "train/2.png", "test/3.png")
    (tmp_path / "train" / "metadata.csv").write_text("file_name,label\n1.png,a\n2.png,b\n")
    (tmp_path / "test" / "metadata.jsonl").write_text(json.dumps({"file_name": "3.png", "label": "a"}) + "\n")
    assert info(read(tmp_path)) == {
        "train/1.png": ("a", "train", None),
        "train/2.png": ("b", "train", None),
        "test/3.png": ("a", "test", None),
    }


def test_table_inside_a_folder(tmp_path: Path) -> None:
    put(tmp_path, "images/1.png", "images/2.png", "images/3.png")
    (tmp_path / "labels.csv").write_text("image,label\nimages/1.png,a\nimages/2.png,b\n")
    samples = read(tmp_path)
    assert [s.label for s in samples] == ["a", "b"]
    assert notes_of(samples)[ReadingKind.IMAGES_NOT_IN_TABLE].examples == ("images/3.png",)


def test_conflicting_table_and_folders_show_both(tmp_path: Path) -> None:
    put(tmp_path, "a/1.png", "b/2.png")
    (tmp_path / "labels.csv").write_text("image,label\na/1.png,x\nb/2.png,y\n")
    with pytest.raises(UsageError) as caught:
        read(tmp_path)
    assert "`a/1.png` is `x` in the table and `a` by its folder" in str(caught.value)
    assert "--layout '{label}/*'" in str(caught.value)
    assert read(tmp_path / "labels.csv").class_names == ("x", "y")
    assert read(tmp_path, layout="{label}/*").class_names == ("a", "b")


def test_prediction_tables_are_not_labels(tmp_path: Path) -> None:
    put(tmp_path, "a/1.png", "b/2.png")
    (tmp_path / "predictions.csv").write_text("file,label,probability\na/1.png,b,0.9\nb/2.png,a,0.8\n")
    assert read(tmp_path).layout == "class folders"


def test_several_tables(tmp_path: Path) -> None:
    put(tmp_path, "i/1.png", "i/2.png")
    (tmp_path / "train.csv").write_text("image,label\ni/1.png,a\n")
    (tmp_path / "test.csv").write_text("image,label\ni/2.png,a\n")
    assert [s.split for s in sorted(read(tmp_path), key=lambda s: s.name)] == ["train", "test"]
    (tmp_path / "more.csv").write_text("image,label\ni/2.png,a\n")
    samples = read(tmp_path)  # more.csv says nothing else
    assert len(samples) == 2
    assert [u.path for u in samples.inventory.unused] == ["more.csv"]
    (tmp_path / "more.csv").write_text("image,label\ni/2.png,b\n")
    with pytest.raises(UsageError) as caught:
        read(tmp_path)
    assert caught.value.hint == "use --table 't*.csv' for (1), --table more.csv for (2)"


def test_text_list_is_read(tmp_path: Path) -> None:
    put(tmp_path, "p/1 a.png", "p/2.png", "p/3.png")
    (tmp_path / "all.txt").write_text("# made by hand\np/1 a.png cat\np/2.png dog\n\np/3.png dog\n")
    samples = read(tmp_path / "all.txt")
    assert [s.label for s in samples] == ["cat", "dog", "dog"]
    assert samples.layout == "list"
    (tmp_path / "all.txt").write_text("p/2.png tabby cat\np/3.png dog\n")
    assert read(tmp_path / "all.txt").class_names == ("dog", "tabby cat")
    (tmp_path / "all.txt").write_text("nothing here\n")
    with pytest.raises(DataError, match="no line"):
        read(tmp_path / "all.txt")


def test_one_list_per_split_with_class_names(tmp_path: Path) -> None:
    put(tmp_path, "p/1.png", "p/2.png")
    (tmp_path / "train.txt").write_text("p/1.png 0\n")
    (tmp_path / "test.txt").write_text("p/2.png 1\n")
    (tmp_path / "labels.txt").write_text("cat\ndog\n")
    samples = read(tmp_path)
    assert info(samples) == {"p/1.png": ("cat", "train", None), "p/2.png": ("dog", "test", None)}


def test_unsupported_files_raise_with_fix(tmp_path: Path) -> None:
    for name, hint in [("t.xlsx", "save as CSV"), ("t.7z", "unpack it"), ("t.png", "single image")]:
        (tmp_path / name).write_bytes(b"x")
        with pytest.raises(UsageError, match=hint):
            read(tmp_path / name)
    with pytest.raises(DataError, match="does not exist"):
        read(tmp_path / "nothing")


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


def test_images_without_labels_for_other_tasks(tmp_path: Path) -> None:
    put(tmp_path, "1.png", "2.png")
    with pytest.raises(DataError, match="no class folders"):
        read(tmp_path)
    samples = read(tmp_path, task="images")
    assert [s.label for s in samples] == [None, None]
    assert samples.class_names == ()


def test_empty_folders_raise(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="images"):
        read(tmp_path)
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "slide.svs").write_bytes(b"x")
    with pytest.raises(DataError, match=r"1 \.svs file\b") as caught:
        read(tmp_path)
    assert "QuPath" in str(caught.value)


def test_system_files_are_ignored(tmp_path: Path) -> None:
    put(tmp_path, "a/1.png", "b/2.png", ".hidden/3.png", "__MACOSX/a/4.png", ".ipynb_checkpoints/5.png", "a/._1.png")
    (tmp_path / "a" / "Thumbs.db").write_bytes(b"x")
    (tmp_path / "desktop.ini").write_bytes(b"x")
    (tmp_path / "c").mkdir()
    samples = read(tmp_path)
    assert samples.names == ["a/1.png", "b/2.png"]
    assert samples.problems == ()
    assert notes_of(samples)[ReadingKind.EMPTY_FOLDERS].examples == ("c",)


def test_similar_class_names_are_reported(tmp_path: Path) -> None:
    put(tmp_path, "Cat/1.png", "cats and dogs/1.png", "cats_and_dogs/2.png")
    note = notes_of(read(tmp_path))[ReadingKind.CLASSES_ALIKE]
    assert note.evidence == {"groups": [["cats and dogs", "cats_and_dogs"]]}


def test_unicode_forms_are_one_class(tmp_path: Path) -> None:
    put(tmp_path, "train/caf\u00e9/1.png", "test/cafe\u0301/2.png", "train/tea/3.png")
    assert read(tmp_path).class_names == ("caf\u00e9", "tea")


def test_data_folder_is_unchanged(tmp_path: Path) -> None:
    put(tmp_path, "a/1.png", "b/2.png")
    (tmp_path / "labels.csv").write_text("image,label\na/1.png,a\nb/2.png,b\n")
    before = sorted((str(p), p.stat().st_mtime_ns) for p in tmp_path.rglob("*"))
    read(tmp_path)
    assert sorted((str(p), p.stat().st_mtime_ns) for p in tmp_path.rglob("*")) == before
