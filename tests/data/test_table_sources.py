"""Test reading labels from tables and lists."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from reading import info, notes_of, put

from headstart.data.sources import read
from headstart.errors import DataError, UsageError
from headstart.types.codes import ReadingKind


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
