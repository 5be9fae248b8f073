"""Test OOD scores and prediction sets of a bundle against training."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from tiny_models import CLASSES, SPEC, WIDTHS, make_graph, make_head

from headstart.api.model import Model
from headstart.errors import BundleError, UsageError
from headstart.evaluation.conformal import fit_prediction_sets
from headstart.evaluation.ood import OodModel, fit_ood_model
from headstart.evaluation.softmax import softmax
from headstart.export.bundle_writer import BundleGraph
from headstart.export.parity import check_parity
from headstart.inference.bundle import read_bundle
from headstart.inference.decoders import ClassDecoder
from headstart.inference.runtime import Runtime
from headstart.tasks.classify.bundle import write_classifier_bundle


@pytest.fixture(scope="module", params=[False, True], ids=["all", "some"])
def ood_model(request: pytest.FixtureRequest) -> OodModel:
    """Return an OOD model on all features of the head, or on its first block only."""
    rng = np.random.default_rng(5)
    rows = make_head().normalizer({name: rng.random((80, width), dtype=np.float32) for name, width in WIDTHS.items()})
    columns = np.arange(rows.shape[1]) < (WIDTHS["stage1"] if request.param else rows.shape[1])
    ood = fit_ood_model(rows[:, columns], rng.dirichlet(np.full(4, 0.5), 80), rng.integers(0, 4, 80))
    return ood.spread(columns) if request.param else ood


@pytest.fixture(scope="module", params=[False, True], ids=["plain", "flipped"])
def calibrated_bundle(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, ood_model: OodModel
) -> Path:
    rng = np.random.default_rng(6)
    graph = make_graph(tmp_path_factory.mktemp("graph") / "graph.onnx")
    sets = fit_prediction_sets(rng.dirichlet(np.full(4, 0.5), 80), rng.integers(0, 4, 80))
    return write_classifier_bundle(
        tmp_path_factory.mktemp("run") / "bundle", BundleGraph(graph, SPEC, has_flip=request.param), CLASSES,
        make_head(),
        ood=ood_model, prediction_sets=sets.rule,
    )  # fmt: skip


def class_scores(runtime: Runtime, images: list[Path]) -> tuple[np.ndarray, np.ndarray]:
    """Return (N, K) probabilities and (N,) OOD scores."""
    decoder = ClassDecoder(runtime.bundle)
    outputs = runtime.tables(images, decoder.outputs)
    probabilities = softmax(outputs[0])
    return probabilities, decoder.ood_scores(probabilities, outputs)


def test_graph_residual_norm_matches_training(
    calibrated_bundle: Path, ood_model: OodModel, images: list[Path], tmp_path: Path
) -> None:
    runtime = Runtime(calibrated_bundle)
    probabilities, result = class_scores(runtime, images)
    session = runtime.session(1, ("residual_norm",))
    names = list(WIDTHS)
    # Pooled features of the graph without the head.
    import onnxruntime

    from headstart.preprocessing.image_spec import normalize, read_image

    plain = onnxruntime.InferenceSession(str(make_graph(tmp_path / "g.onnx")), providers=["CPUExecutionProvider"])
    pixels = np.stack([normalize(read_image(str(p), SPEC)[None], SPEC)[0] for p in images])
    blocks = dict(zip(names, plain.run(names, {"pixels": pixels}), strict=True))
    if runtime.bundle.info["has_flip"]:
        flipped = plain.run(names, {"pixels": np.ascontiguousarray(pixels[..., ::-1])})
        blocks = {n: (b + m) / 2 for (n, b), m in zip(blocks.items(), flipped, strict=True)}
    expected = ood_model.score(make_head().normalizer(blocks), probabilities)
    np.testing.assert_allclose(result, expected, atol=1e-3)
    assert np.ptp(result) > 0.5
    logits = make_head().logits(blocks)
    parity = check_parity(runtime, images, logits, expected_ood_scores=expected)
    assert parity.max_ood_score_difference == pytest.approx(np.abs(result - expected).max(), abs=1e-6)
    with pytest.raises(BundleError, match="OOD score differs"):
        check_parity(runtime, images, logits, expected_ood_scores=expected + 0.2)
    alone = np.concatenate([session.run(["residual_norm"], {"pixels": p[None]})[0] for p in pixels])
    np.testing.assert_array_equal(alone, session.run(["residual_norm"], {"pixels": pixels})[0])


def test_predictions_have_ood_score_and_errors_do_not(
    calibrated_bundle: Path, images: list[Path], tmp_path: Path
) -> None:
    runtime = Runtime(calibrated_bundle)
    probabilities, scores = class_scores(runtime, [*images, tmp_path / "missing.png"])
    assert np.isnan(scores[-1])
    assert np.isnan(probabilities[-1]).all()
    for unreadable in class_scores(runtime, [tmp_path / "missing.png"]):
        assert np.isnan(unreadable).all()
    predictions = Model(runtime).predict([*images, tmp_path / "missing.png"])
    last = predictions[-1]
    assert (last.ood_score, last.is_ood, last.prediction_set) == (None, None, None)
    rule, floors = runtime.bundle.ood, runtime.bundle.prediction_sets
    assert rule is not None
    assert floors is not None
    inside = floors.sets(probabilities[:-1])
    for p, value, row in zip(predictions, scores, inside, strict=False):
        assert p.ood_score == pytest.approx(value)
        assert p.is_ood is bool(value > rule.threshold())
        assert set(p.prediction_set or ()) == {CLASSES[k] for k in np.flatnonzero(row)}
    half = Model(runtime).predict(images, ood_fpr=0.5, coverage=0.99)
    assert sum(bool(p.is_ood) for p in half) >= sum(bool(p.is_ood) for p in predictions)
    assert all(
        set(a.prediction_set or ()) <= set(b.prediction_set or ()) for a, b in zip(predictions, half, strict=False)
    )


def test_missing_bundle_feature_raises(bundle_path: Path, calibrated_bundle: Path, images: list[Path]) -> None:
    plain = Runtime(bundle_path)
    assert Model(plain).predict(images[:1])[0].is_ood is None
    assert np.isnan(class_scores(plain, images)[1]).all()
    np.testing.assert_array_equal(class_scores(plain, images)[0], Model(plain).predict_proba(images))
    for options in ({"ood_fpr": 0.05}, {"coverage": 0.9}):
        with pytest.raises(UsageError, match="cannot be used"):
            Model(plain).predict(images, **options)
    for options in ({"ood_fpr": 1.5}, {"coverage": 0.0}, {"coverage": 0.999}, {"ood_fpr": 0.001}):
        with pytest.raises(UsageError):
            Model(Runtime(calibrated_bundle)).predict(images, **options)


@pytest.mark.parametrize(
    "change",
    [
        {"ood": []},
        {"ood": {"ood_fpr": 0.05}},
        {"ood": {"ood_center": "a"}},
        {"prediction_sets": {"coverage": 0.9, "thresholds": {"0.9": [0.1]}}},
        {"prediction_sets": {"coverage": 0.9, "thresholds": 3}},
        {"prediction_sets": 7},
    ],
)
def test_invalid_numbers_raise(calibrated_bundle: Path, tmp_path: Path, change: dict[str, object]) -> None:
    folder = tmp_path / "bundle"
    shutil.copytree(calibrated_bundle, folder)
    info = json.loads((folder / "bundle.json").read_text(encoding="utf-8"))
    (folder / "bundle.json").write_text(json.dumps(info | change), encoding="utf-8")
    with pytest.raises(BundleError, match="is invalid"):
        read_bundle(folder)
