from __future__ import annotations

import pickle
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.helper
import pytest
from numpy.typing import NDArray
from PIL import Image
from tiny_models import CLASSES, SPEC, image, make_graph, make_head

from headstart.api.model import Model, open_model
from headstart.errors import BundleError, HeadstartError, UsageError
from headstart.evaluation.softmax import softmax
from headstart.export.bundle_writer import BundleGraph
from headstart.inference.bundle import read_bundle
from headstart.inference.decoders import ClassDecoder
from headstart.inference.runtime import Runtime
from headstart.preprocessing.image_spec import normalize, read_image
from headstart.tasks.classify.bundle import write_classifier_bundle
from headstart.types.records import Problem


@pytest.fixture(scope="module")
def runtime(bundle_path: Path) -> Model:
    return Model(Runtime(bundle_path, num_threads=2))


@pytest.mark.parametrize("num_threads", [1, 2, 3])
@pytest.mark.parametrize("batch", [1, 2, 5, 16])
def test_result_does_not_depend_on_batch_and_threads(
    bundle_path: Path, images: list[Path], num_threads: int, batch: int
) -> None:
    single = Runtime(bundle_path, num_threads=1)
    alone = np.concatenate([single.tables(p, ("logits",))[0] for p in images])
    together = Runtime(bundle_path, num_threads=num_threads).tables(iter(images), ("logits",), batch=batch)[0]
    # Bit-identical for widths of real networks (see test_assemble); these widths are odd on purpose.
    assert np.abs(together - alone).max() < 1e-6


def test_prediction_matches_numpy_reference(runtime: Model, images: list[Path]) -> None:
    """The reference is numpy: preprocessed pixels, raw graph, and head."""
    import onnxruntime

    session = onnxruntime.InferenceSession(runtime.runtime.bundle.model)
    batch = normalize(np.stack([read_image(p, SPEC) for p in images]), SPEC)
    expected = softmax(session.run(["logits"], {"pixels": batch})[0])
    predictions = runtime.predict(images, top=4)
    for path, prediction, row in zip(images, predictions, expected, strict=True):
        assert prediction.file == str(path)
        assert prediction.error is None
        assert [name for name, _ in prediction.top] == [CLASSES[i] for i in np.argsort(-row, kind="stable")]
        assert prediction.label == prediction.top[0][0]
        assert prediction.probability == pytest.approx(row.max(), abs=1e-6)
        assert sum(p for _, p in prediction.top) == pytest.approx(1)
    assert len({prediction.label for prediction in predictions}) > 1


@pytest.mark.parametrize(("top", "expected"), [(1, 1), (3, 3), (99, 4)])
def test_top(runtime: Model, images: list[Path], top: int, expected: int) -> None:
    assert len(runtime.predict(images[0], top=top)[0].top) == expected


def test_one_or_many(runtime: Model, images: list[Path]) -> None:
    one = list(runtime.predict(images[0]))
    for same in (runtime.predict(str(images[0])), runtime.predict([images[0]]), runtime.predict(images)[:1]):
        assert list(same) == one
    assert list(runtime.predict([])) == []
    assert runtime.predict_proba([]).shape == (0, 4)


def test_images_in_memory_equal_files(runtime: Model, images: list[Path], tmp_path: Path) -> None:
    lossless = [p for p in images if p.suffix != ".jpg"]
    opened = [Image.open(p) for p in lossless]
    arrays = [np.asarray(Image.open(p)) for p in lossless]
    expected = runtime.predict_proba(lossless)
    assert np.array_equal(runtime.predict_proba(opened), expected)
    assert np.array_equal(runtime.predict_proba(arrays), expected)
    assert np.array_equal(runtime.predict_proba([a[..., ::-1] for a in arrays], channel_order="bgr"), expected)
    assert not np.array_equal(runtime.predict_proba([a[..., ::-1] for a in arrays]), expected)
    assert np.array_equal(runtime.predict_proba([p.read_bytes() for p in lossless]), expected)
    assert np.array_equal(runtime.predict_proba(arrays[0]), expected[:1])
    assert np.array_equal(runtime.predict_proba(opened[0]), expected[:1])
    assert np.array_equal(runtime.predict_proba(np.stack([arrays[0]] * 3)), expected[[0, 0, 0]])
    assert [p.file for p in runtime.predict([arrays[0], lossless[0], opened[1]])] == ["#0", str(lossless[0]), "#2"]


def test_in_memory_orientation_and_transparency_are_applied(runtime: Model, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    image(1, (80, 40)).save(tmp_path / "turned.png", exif=exif)
    rgba = image(2, (40, 30)).convert("RGBA")
    rgba.putalpha(Image.linear_gradient("L").resize((40, 30)))
    rgba.save(tmp_path / "alpha.png")
    files = [tmp_path / "turned.png", tmp_path / "alpha.png"]
    assert np.array_equal(runtime.predict_proba([Image.open(f) for f in files]), runtime.predict_proba(files))


def test_predict_leaves_input_image_unchanged(runtime: Model) -> None:
    opened, array = image(3), np.asarray(image(3)).copy()
    before = opened.tobytes()
    runtime.predict([opened, array], channel_order="bgr")
    assert opened.tobytes() == before == array.tobytes()


def test_unreadable_image_gets_an_error_row(runtime: Model, images: list[Path], tmp_path: Path) -> None:
    bad = {
        "missing.jpg": None,
        "empty.png": b"",
        "text.jpg": b"no image",
        "cut.png": images[0].read_bytes()[:300],
        "photo.nef": b"\0\0\0\x18ftypcrx ",
    }
    for name, data in bad.items():
        if data is not None:
            (tmp_path / name).write_bytes(data)
    refused = Problem("link.png", "outside", "leaves the folder")
    sources: list[Any] = [images[0], *(tmp_path / name for name in bad), tmp_path, refused, images[1]]
    predictions = runtime.predict(sources)
    assert [p.file for p in predictions] == [s.name if isinstance(s, Problem) else str(s) for s in sources]
    assert [p.error is None for p in predictions] == [True, *[False] * 7, True]
    assert all(p.label is None and p.probability is None and p.top == () for p in predictions[1:-1])
    words = ["no such file", "empty", "not an image", "decode", "develop to JPEG", "folder", "leaves the folder"]
    for prediction, word in zip(predictions[1:-1], words, strict=True):
        assert word in str(prediction.error)
    table = runtime.predict_proba(sources)
    assert np.isnan(table[1:-1]).all()
    assert np.isfinite(table[[0, -1]]).all()
    assert np.isnan(runtime.embed(sources)[1:-1]).all()


def test_all_unreadable(runtime: Model) -> None:
    assert np.isnan(runtime.predict_proba(["a.png", "b.png"])).all()
    assert runtime.predict_proba(["a.png", "b.png"]).shape == (2, 4)


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (np.zeros((5, 5, 3), np.float32), "expected (H, W, 3) uint8"),
        (np.zeros((5, 5, 4), np.uint8), "(H, W, 3)"),
        ([np.zeros((2, 5, 5, 3), np.uint8)], "(H, W, 3)"),
        (7, "got a int"),
        ([7], "image 0 is a int"),
        ([None], "NoneType"),
    ],
)
def test_non_image_raises(runtime: Model, source: Any, words: str) -> None:
    with pytest.raises(UsageError) as caught:
        runtime.predict(source)
    assert words in caught.value.message


def test_image_without_pixels_gets_error_row(runtime: Model) -> None:
    assert "no pixels" in str(runtime.predict(np.zeros((0, 5, 3), np.uint8))[0].error)


@pytest.mark.parametrize("options", [{"top": 0}, {"batch": 0}, {"channel_order": "rbg"}])
def test_invalid_options_raise_early(runtime: Model, images: list[Path], options: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        decoder = ClassDecoder(runtime.runtime.bundle, options.pop("top", 1))
        runtime.runtime.predict(images, decoder, **options)


def test_num_threads_is_at_least_one(bundle_path: Path) -> None:
    with pytest.raises(UsageError):
        Runtime(bundle_path, num_threads=0)


def test_inputs_are_streamed(bundle_path: Path, images: list[Path]) -> None:
    """Only a few chunks are read before the first predictions."""
    taken = 0

    def source() -> Iterator[Path]:
        nonlocal taken
        for i in range(400):
            taken += 1
            yield images[i % len(images)]

    ahead = 0
    runtime = Runtime(bundle_path, num_threads=2)
    for given, _ in enumerate(runtime.predict(source(), ClassDecoder(runtime.bundle), batch=3)):
        ahead = max(ahead, taken - given)
    assert taken == 400
    assert ahead <= 3 * (2 * 2 + 2)


@pytest.mark.parametrize("num_threads", [1, 2, 8])
@pytest.mark.parametrize("count", [1, 2, 5, 40])
def test_blocked_source_yields_its_first_results(
    bundle_path: Path, images: list[Path], num_threads: int, count: int
) -> None:
    """A camera that stops after `count` frames still gives results; one is made before the second frame is read."""

    class BlockedError(Exception):
        pass

    def frames() -> Iterator[Path]:
        yield from (images[i % len(images)] for i in range(count))
        raise BlockedError  # stands for a wait that never ends

    results, num_results = open_model(bundle_path, num_threads).predict(frames()), 0
    with pytest.raises(BlockedError):
        for _ in results:
            num_results += 1
    assert num_results >= max(1, count // 2, count - num_threads)


def test_video_names_the_line_that_makes_frames(runtime: Model, tmp_path: Path) -> None:
    for name, data in (("a.mp4", b"\0\0\0\x20ftypisom"), ("b.mkv", b"\x1aE\xdf\xa3"), ("c.bin", b"RIFF1234AVI ")):
        (tmp_path / name).write_bytes(data + bytes(64))
        (prediction,) = runtime.predict(tmp_path / name)
        assert "ffmpeg -i" in (prediction.error or "")


def test_results_of_an_iterator_are_kept(bundle_path: Path, images: list[Path]) -> None:
    model = open_model(bundle_path, 2)
    expected = model.predict(images)
    results = model.predict(iter(images))
    assert next(iter(results)) == expected[0]
    assert list(results) == list(results) == list(expected)
    assert len(results) == len(images)
    assert results.rows() == expected.rows()


def test_order_is_kept(bundle_path: Path, tmp_path: Path) -> None:
    paths = []
    for i in range(21):
        paths.append(tmp_path / f"{i}.png")
        image(i, (900, 700) if i % 7 == 0 else (30, 20)).save(paths[-1])
    expected = [open_model(bundle_path, 1).predict(p)[0] for p in paths]
    runtime = Runtime(bundle_path, num_threads=4)
    predictions = list(runtime.predict(paths, ClassDecoder(runtime.bundle), batch=1))
    assert [p.file for p in predictions] == [str(p) for p in paths]
    assert [p.label for p in predictions] == [p.label for p in expected]


def test_stopping_early_ends_threads(runtime: Model, images: list[Path]) -> None:
    decoder = ClassDecoder(runtime.runtime.bundle)
    stream = runtime.runtime.predict((p for _ in range(100) for p in images), decoder, batch=2)
    next(stream)
    stream.close()
    assert not [t for t in threading.enumerate() if t.name.startswith("headstart")]


def test_failing_source_raises(runtime: Model, images: list[Path]) -> None:
    def source() -> Iterator[Path]:
        yield from images
        raise RuntimeError("the camera is gone")

    results = runtime.predict(source())
    with pytest.raises(RuntimeError, match="camera"):
        list(results)
    assert not [t for t in threading.enumerate() if t.name.startswith("headstart")]


def test_calls_from_several_threads(bundle_path: Path, images: list[Path]) -> None:
    runtime = Model(Runtime(bundle_path, num_threads=2))
    expected = runtime.predict_proba(images)
    results: list[NDArray[np.float64]] = []
    callers = [threading.Thread(target=lambda: results.append(runtime.predict_proba(images))) for _ in range(4)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert len(results) == 4
    assert all(np.array_equal(expected, other) for other in results)


def test_model_contradicting_bundle_raises(tmp_path: Path, graph_path: Path) -> None:
    """A broken bundle with valid digests raises a headstart error, not one of ONNX Runtime."""
    from dataclasses import replace

    bundle = read_bundle(write_classifier_bundle(tmp_path / "b", BundleGraph(graph_path, SPEC), CLASSES, make_head()))
    with pytest.raises(BundleError, match="of 5 classes"):
        Model(Runtime(replace(bundle, class_names=(*CLASSES, "x")))).predict(image(0))
    with pytest.raises(BundleError, match="`pixels`"):
        Model(Runtime(replace(bundle, spec=SPEC.with_(size_hw=(9, 9))))).predict(image(0))
    model = onnx.load_from_string(bundle.model)
    model.graph.node[0].op_type = "NoSuchOperator"
    with pytest.raises(BundleError, match="cannot open the model") as caught:
        Model(Runtime(replace(bundle, model=model.SerializeToString()))).predict(image(0))
    assert "upgrade onnxruntime" in str(caught.value.hint)


def test_failing_model_raises(tmp_path: Path) -> None:
    graph = onnx.load(str(make_graph(tmp_path / "g.onnx", {"logits": 2})))
    graph.graph.node[-1].output[0] = "before"
    graph.graph.initializer.append(onnx.numpy_helper.from_array(np.array([7, 2]), "shape"))
    graph.graph.node.append(onnx.helper.make_node("Reshape", ["before", "shape"], ["logits"]))
    onnx.save(graph, str(tmp_path / "g.onnx"))
    from headstart.export import bundle_writer

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bundle_writer, "measure_latency", lambda *a: None)
        folder = write_classifier_bundle(tmp_path / "b", BundleGraph(tmp_path / "g.onnx", SPEC), ["a", "b"])
    with pytest.raises(HeadstartError, match="failed"):
        open_model(folder).predict(image(0))


def test_embedding(runtime: Model, images: list[Path], tmp_path: Path) -> None:
    assert runtime.embed(images).shape == (9, 11)
    graph = make_graph(tmp_path / "g.onnx", {"logits": 2})
    only = write_classifier_bundle(tmp_path / "b", BundleGraph(graph, SPEC), ["a", "b"])
    with pytest.raises(UsageError, match="no output `embedding`"):
        Model(Runtime(only)).embed(images)


def test_runtime_can_be_pickled(runtime: Model, images: list[Path]) -> None:
    other = pickle.loads(pickle.dumps(runtime))
    assert list(other.predict(images)) == list(runtime.predict(images))


def test_softmax_of_large_and_equal_logits() -> None:
    table = softmax(np.array([[1e30, 0, -1e30], [3, 3, 3]], dtype=np.float32))
    assert np.allclose(table, [[1, 0, 0], [1 / 3] * 3])
