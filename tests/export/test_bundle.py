from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
from tiny_models import CLASSES, SPEC, make_graph, make_head

from headstart.errors import BundleError, HeadstartError, UsageError
from headstart.export import bundle_writer
from headstart.export.bundle_writer import BundleGraph, amend_bundle
from headstart.inference import bundle_members
from headstart.inference.bundle import read_bundle
from headstart.inference.bundle_members import SCHEMA
from headstart.tasks.classify.bundle import write_classifier_bundle

FILES = ["bundle.json", "model.onnx", "model.safetensors", "trained_on.txt"]


@pytest.fixture
def copy(bundle_path: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(bundle_path, tmp_path / "bundle"))


def zipped(folder: Path, target: Path, prefix: str = "") -> Path:
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(folder.rglob("*")):
            archive.write(file, prefix + str(file.relative_to(folder)))
    return target


def change_info(folder: Path, **changes: object) -> None:
    path = folder / "bundle.json"
    info = json.loads(path.read_text(encoding="utf-8")) | changes
    path.write_text(json.dumps({k: v for k, v in info.items() if v != "gone"}), encoding="utf-8")


def test_written_bundle_is_read(bundle_path: Path) -> None:
    bundle = read_bundle(bundle_path)
    assert sorted(p.name for p in bundle_path.iterdir()) == FILES
    assert bundle.class_names == CLASSES  # exactly, escaped nowhere
    assert bundle.spec == SPEC
    assert bundle.task == "classify"
    assert bundle.temperature == make_head().temperature
    assert bundle.info["weights_license"] == "CC0"
    assert bundle.info["backbone"] == {"name": "tiny", "license": "CC0"}
    assert bundle.info["score"] == {"accuracy": 0.9}
    assert bundle.info["outputs"] == {"logits": ["B", 4], "embedding": ["B", 11]}
    assert 0 < bundle.info["latency"]["p50_ms"] <= bundle.info["latency"]["p95_ms"]
    assert bundle.trained_on() == {"a" * 16, "b" * 16}


def test_weights_are_those_of_head_and_network(bundle_path: Path, graph_path: Path) -> None:
    tensors = read_bundle(bundle_path).weights()
    head = make_head()
    assert np.array_equal(tensors["head.weight"], head.weight)
    assert np.array_equal(tensors["head.bias"], head.bias)
    assert np.array_equal(tensors["head.mean"], np.concatenate(head.normalizer.means))
    assert {"backbone.stage1.weight", "backbone.embedding.weight"} <= set(tensors)


@pytest.mark.parametrize("prefix", ["", "bundle/", "runs/train1/bundle/", "./odd name/"])
def test_zip_of_bundle_or_run(bundle_path: Path, tmp_path: Path, prefix: str) -> None:
    expected = read_bundle(bundle_path)
    bundle = read_bundle(zipped(bundle_path, tmp_path / "b.zip", prefix))
    assert bundle.model == expected.model
    assert bundle.class_names == expected.class_names
    assert bundle.weights().keys() == expected.weights().keys()
    assert bundle.trained_on() == expected.trained_on()


def test_run_folder(bundle_path: Path) -> None:
    assert read_bundle(bundle_path.parent).model == read_bundle(str(bundle_path)).model


def test_zip_members_are_not_extracted(bundle_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Members with hostile names are never opened, and nothing is written."""
    target = zipped(bundle_path, tmp_path / "b.zip")
    with zipfile.ZipFile(target, "a") as archive:
        archive.writestr("../../evil.txt", "x")
        archive.writestr("/tmp/evil.txt", "x")
    workplace = tmp_path / "here" / "deep"
    workplace.mkdir(parents=True)
    monkeypatch.chdir(workplace)
    before = sorted(tmp_path.rglob("*"))
    read_bundle(target)
    assert sorted(tmp_path.rglob("*")) == before


def test_file_paths_in_bundle_are_not_followed(copy: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("x")
    files = json.loads((copy / "bundle.json").read_text())["files"]
    change_info(copy, files=files | {"../secret": {"size_bytes": 1, "sha256": "0"}})
    assert read_bundle(copy).class_names == CLASSES  # unknown names are never opened


def test_zip_bomb_raises(bundle_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(bundle_members.LIMITS, "bundle.json", 1000)
    with pytest.raises(BundleError, match="exceeds its size limit"):
        read_bundle(zipped(bundle_path, tmp_path / "b.zip"))
    with pytest.raises(BundleError, match="exceeds its size limit"):
        read_bundle(bundle_path)


def test_zip_with_two_bundles_raises(bundle_path: Path, tmp_path: Path) -> None:
    target = zipped(bundle_path, tmp_path / "b.zip", "a/")
    with zipfile.ZipFile(target, "a") as archive:
        archive.writestr("b/bundle.json", "{}")
    with pytest.raises(BundleError, match="contains 2 bundles"):
        read_bundle(target)


@pytest.mark.parametrize("name", FILES)
def test_truncated_file_is_reported(copy: Path, tmp_path: Path, name: str) -> None:
    path = copy / name
    path.write_bytes(path.read_bytes()[:-20])
    for place in (copy, zipped(copy, tmp_path / "b.zip")):
        with pytest.raises(BundleError, match=name) as caught:
            read_bundle(place)
        assert caught.value.hint


@pytest.mark.parametrize("name", FILES)
def test_missing_file_is_reported(copy: Path, tmp_path: Path, name: str) -> None:
    (copy / name).unlink()
    with pytest.raises(BundleError, match=name):
        read_bundle(copy)


@pytest.mark.parametrize("name", FILES[1:])
def test_changed_byte_raises_on_use(copy: Path, name: str) -> None:
    path = copy / name
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(BundleError, match="digest of"):
        bundle = read_bundle(copy)
        bundle.trained_on() if name == "trained_on.txt" else bundle.weights()


@pytest.mark.parametrize("length", [0, 1, 21, 1000, -1, -10, -30])
def test_truncated_zip_raises(bundle_path: Path, tmp_path: Path, length: int) -> None:
    target = zipped(bundle_path, tmp_path / "b.zip")
    target.write_bytes(target.read_bytes()[:length])
    with pytest.raises(BundleError, match=r"b\.zip"):
        read_bundle(target)


def test_newer_schema_raises_with_fix(copy: Path) -> None:
    change_info(copy, schema=SCHEMA + 1, task="something new", pixels={"unknown": 1})
    with pytest.raises(BundleError, match="newer headstart") as caught:
        read_bundle(copy)
    assert "upgrade" in str(caught.value.hint)


@pytest.mark.parametrize(
    "changes",
    [
        {"schema": "1"},
        {"schema": True},
        {"schema": "gone"},
        {"class_names": ["a", "a", "b", "c"]},
        {"class_names": "abcd"},
        {"class_names": ["a", "b", "c", 4]},
        {"class_names": "gone"},
        {"temperature": "hot"},
        {"temperature": None},
        {"pixels": None},
        {"pixels": {"size_hw": [10**9, 10**9]}},
        {"pixels": {"size_hw": [24, "32"]}},
        {"pixels": {"size_hw": [24]}},
        {"pixels": {"mean": [0.5, 0.5]}},
        {"pixels": {"std": [0.5, 0.5, 1e999]}},
        {"pixels": {"background": [0, 0, 256]}},
        {"pixels": {"intensity_range": [5, 5]}},
        {"pixels": {"resize_mode": "stretch"}},
        {"pixels": {"new_key": 1}},
        {"thresholds": 4},
        {"files": {}},
        {"files": []},
        {"files": {"model.onnx": 4}},
        {"files": "gone"},
        {"task": 7},
    ],
)
def test_invalid_values_raise(copy: Path, changes: dict[str, object]) -> None:
    change_info(copy, **changes)
    with pytest.raises(BundleError) as caught:
        read_bundle(copy)
    assert str(copy) in caught.value.message


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '"x"', "[" * 100_000, "\xff\xfe"])
def test_non_object_json_raises(copy: Path, text: str) -> None:
    (copy / "bundle.json").write_text(text, encoding="latin-1")
    with pytest.raises(BundleError, match="damaged"):
        read_bundle(copy)


def test_non_bundle_raises(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no model at"):
        read_bundle(tmp_path / "nothing")
    with pytest.raises(BundleError, match="neither a run folder nor a bundle"):
        read_bundle(tmp_path)
    (tmp_path / "cat.jpg").write_bytes(b"x" * 100)
    with pytest.raises(BundleError, match="is not a bundle"):
        read_bundle(tmp_path / "cat.jpg")


def test_existing_folder_is_not_overwritten(bundle_path: Path, graph_path: Path) -> None:
    before = {p.name: p.read_bytes() for p in bundle_path.iterdir()}
    with pytest.raises(UsageError, match="not overwritten"):
        write_classifier_bundle(bundle_path, BundleGraph(graph_path, SPEC), CLASSES, make_head())
    assert {p.name: p.read_bytes() for p in bundle_path.iterdir()} == before


@pytest.mark.parametrize(
    ("names", "hw", "words"),
    [
        (CLASSES[:2], (24, 32), "4 classes.* 2"),
        (("a", "b", "c", "a"), (24, 32), "is duplicated"),
        ((), (24, 32), "no class names"),
        (CLASSES, (32, 24), "float32 input `pixels`"),
    ],
)
def test_inconsistent_bundle_is_not_written(
    tmp_path: Path, graph_path: Path, names: tuple[str, ...], hw: tuple[int, int], words: str
) -> None:
    with pytest.raises(BundleError, match=words):
        write_classifier_bundle(tmp_path / "b", BundleGraph(graph_path, SPEC.with_(size_hw=hw)), names, make_head())
    assert not list(tmp_path.iterdir())


def test_full_disk_leaves_no_files(tmp_path: Path, graph_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, data: bytes) -> int:
        if path.name == "model.safetensors":
            raise OSError(28, "No space left on device")
        return original(path, data)

    original = Path.write_bytes
    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(BundleError, match="No space left"):
        write_classifier_bundle(tmp_path / "b", BundleGraph(graph_path, SPEC), CLASSES, make_head())
    assert not list(tmp_path.iterdir())


def test_leftovers_of_a_killed_writer_are_cleared(tmp_path: Path, graph_path: Path) -> None:
    left = tmp_path / ".b.0123abcd.tmp"
    left.mkdir()
    (left / "model.onnx").write_bytes(b"half")
    write_classifier_bundle(tmp_path / "b", BundleGraph(graph_path, SPEC), CLASSES, make_head())
    assert [p.name for p in tmp_path.iterdir()] == ["b"]


WRITER = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[3])
from tiny_models import CLASSES, SPEC, make_head
from headstart.export import bundle_writer
from headstart.tasks.classify.bundle import write_classifier_bundle
bundle_writer.measure_latency = lambda *a: None  # so that most kills fall into the writing
for i in range(100000):
    folder = Path(sys.argv[2]) / str(i)
    write_classifier_bundle(folder, bundle_writer.BundleGraph(sys.argv[1], SPEC), CLASSES, make_head())
    print(i, flush=True)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL is POSIX's")
def test_killed_writer_leaves_complete_or_no_bundle(tmp_path: Path, graph_path: Path) -> None:
    for attempt in range(3):
        folder = tmp_path / str(attempt)
        folder.mkdir()
        command = [sys.executable, "-c", WRITER, str(graph_path), str(folder), str(Path(__file__).parent)]
        writer = subprocess.Popen(command, stdout=subprocess.PIPE)
        assert writer.stdout is not None
        for i in range(3):
            assert int(writer.stdout.readline()) == i
        time.sleep(0.003 * attempt)
        os.kill(writer.pid, signal.SIGKILL)
        writer.wait()
        writer.stdout.close()
        written = [p for p in folder.iterdir() if not p.name.startswith(".")]
        assert len(written) >= 3
        for bundle in written:
            assert read_bundle(bundle).weights()
        again = folder / str(len(written))
        write_classifier_bundle(again, BundleGraph(graph_path, SPEC), CLASSES, make_head())
        assert read_bundle(again).class_names == CLASSES
        assert not list(folder.glob(f".{again.name}.*"))


def test_amend_keeps_other_keys(copy: Path) -> None:
    amend_bundle(copy, parity={"num_files": 3}, score={"accuracy": 0.5})
    bundle = read_bundle(copy)
    assert bundle.info["parity"] == {"num_files": 3}
    assert bundle.info["score"] == {"accuracy": 0.5}
    assert bundle.class_names == CLASSES
    with pytest.raises(ValueError, match="class_names"):
        amend_bundle(copy, class_names=["x"])
    with pytest.raises(HeadstartError):
        amend_bundle(copy / "nothing", parity=1)


def test_direct_bundle(tmp_path: Path) -> None:
    graph = make_graph(tmp_path / "g.onnx", {"embedding": 8, "logits": 3})
    folder = write_classifier_bundle(tmp_path / "b", BundleGraph(graph, SPEC, {"license": "MIT"}), ["x", "y", "z"])
    bundle = read_bundle(folder)
    assert (bundle.temperature, bundle.info["head"], bundle.info["weights_license"]) == (1.0, None, "MIT")
    assert not any(name.startswith("head.") for name in bundle.weights())


def test_reserved_keys_raise(tmp_path: Path, graph_path: Path) -> None:
    with pytest.raises(ValueError, match="schema"):
        write_classifier_bundle(tmp_path / "b", BundleGraph(graph_path, SPEC), CLASSES, make_head(), meta={"schema": 9})
    assert bundle_writer.SCHEMA == 2
