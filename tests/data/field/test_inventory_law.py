"""Test the inventory law: every file below the data is used or unused with a reason, never both."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from typer import Exit
from typer.testing import CliRunner

from headstart.cli.main import app
from headstart.data.sources import read
from headstart.errors import HeadstartError

FOLDERS = ("", "train", "test", "cat", "dog", "train/cat", "train/dog", "test/cat", "a/b/c", "images", "masks", ".git")
IMAGES = ("1.png", "2.png", "x 3.png", "4")
TEXTS: Mapping[str, str] = {
    "labels.csv": "image,label\n1.png,cat\n2.png,dog\n",
    "train.csv": "id,label,extra\n1,cat,5\n2,dog,6\n1,cat,7\n",
    "train.txt": "cat/1.png\ndog/2.png\n",
    "classes.txt": "cat\ndog\n",
    "splits.csv": "image,split\ncat/1.png,train\ncat/2.png,test\ndog/1.png,train\ndog/2.png,test\n",
    "test.json": '["cat/2.png", "dog/2.png"]',
    "val_annotations.txt": "1.png\tcat\t0\t0\n2.png\tdog\t0\t1\nx 3.png\tdog\t1\t1\n",
    "taxonomy.csv": "id,name\n1,cat\n2,dog\n",
    "names.json": '{"0": "cat"}',
    "notes.doc": "x",
    "README.md": "x",
    "half.part": "x",
    "scan.dcm": "x",
}
FILES = st.sets(st.tuples(st.sampled_from(FOLDERS), st.sampled_from((*IMAGES, *TEXTS))), min_size=3, max_size=14)


def build(root: Path, files: set[tuple[str, str]]) -> None:
    for folder, name in files:
        path = root / folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if name in TEXTS:
            path.write_text(TEXTS[name])
        else:
            Image.new("RGB", (4, 4)).save(path, format="PNG")


@given(files=FILES)
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_every_file_is_used_or_has_a_reason(files: set[tuple[str, str]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        build(Path(folder), files)
        try:
            samples = read(folder)
        except HeadstartError:
            return
        present = {
            os.path.relpath(os.path.join(place, name), folder).replace(os.sep, "/")
            for place, _, names in os.walk(folder)
            for name in names
        }
        inventory = samples.inventory
        used = {*inventory.images, *(table.path for table in inventory.tables)}
        unused = {file.path for file in inventory.unused if not file.path.endswith("/")}
        closed = tuple(file.path for file in inventory.unused if file.path.endswith("/"))
        assert not used & unused
        assert set(samples.names) == set(inventory.images)
        assert {name for name in present if not name.startswith(closed or "\0")} == used | unused
        assert all(file.reason for file in inventory.unused)
        for table in inventory.tables:
            assert table.num_used + sum(table.unused_rows.values()) == table.num_rows


@given(files=FILES)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_check_succeeds_only_if_everything_is_used_or_named(files: set[tuple[str, str]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        build(Path(folder), files)
        result = CliRunner().invoke(app, ["check", folder, "--pixels-only", "--json", "-"], standalone_mode=False)
        if isinstance(result.exception, HeadstartError):
            return
        assert result.exception is None or isinstance(result.exception, (SystemExit, Exit)), result.exception
        value = json.loads(result.stdout)
        unused = {entry["path"] for entry in value["unused"]}
        closed = tuple(path for path in unused if path.endswith("/"))
        tables = {table["path"]: table for table in value["tables"]}
        names = {"/".join(filter(None, file)) for file in files}
        open_names = {name for name in names if not name.startswith(closed or "\0")}
        num_images = sum(sum(splits.values()) for splits in value["classes"].values())
        assert len(open_names) == num_images + len(tables) + len(unused - set(closed))
        assert all(t["num_used"] + sum(t["unused_rows"].values()) == t["num_rows"] for t in tables.values())
        has_splits = any(split != "none" for splits in value["classes"].values() for split in splits)
        lists = {name for name in open_names if name.endswith(("splits.csv", "train.txt"))}
        assert has_splits or lists <= unused  # a split is used or named
