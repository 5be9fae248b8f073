"""Test that `ImageClassifier` follows scikit-learn's estimator contract."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.base import clone, is_classifier
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline

from headstart import ImageClassifier
from headstart.errors import DataError


@pytest.fixture(scope="module")
def data(photos: Path) -> tuple[list[str], list[str]]:
    files = sorted(photos.rglob("*.jpg"))
    return [str(f) for f in files], [f.parent.name for f in files]


def test_parameters_are_kept_as_given() -> None:
    model = ImageClassifier("lite1", image_size=160, class_weight="balanced")
    assert clone(model).get_params() == model.get_params()
    assert model.set_params(image_size=192).image_size == 192
    assert is_classifier(model)


def test_cross_validation(data: tuple[list[str], list[str]]) -> None:
    scores = cross_val_score(ImageClassifier(), *data, cv=3)
    assert scores.mean() > 0.9


def test_pipeline_and_search(data: tuple[list[str], list[str]]) -> None:
    search = GridSearchCV(make_pipeline(ImageClassifier()), {"imageclassifier__class_weight": [None, "balanced"]}, cv=2)
    search.fit(*data)
    assert search.best_score_ > 0.8


def test_images_in_memory_and_any_labels(data: tuple[list[str], list[str]]) -> None:
    images = [Image.open(f) for f in data[0]]
    labels = np.array([10 if name == "discs" else -5 for name in data[1]])
    model = ImageClassifier().fit(images, labels)
    assert list(model.classes_) == [-5, 10]
    assert (model.predict(data[0]) == labels).mean() > 0.9
    assert model.predict_proba(images[:3]).shape == (3, 2)
    assert model.decision_function(images[:3]).shape == (3,)
    assert model.score(images, labels) > 0.9


def test_groups_are_held_out_together(data: tuple[list[str], list[str]]) -> None:
    groups = [f"g{int(Path(f).stem) // 4}" for f in data[0]]
    model = ImageClassifier().fit(*data, groups=groups)
    assert model.oof_logits_.shape == (48, 3)


def test_errors(data: tuple[list[str], list[str]], tmp_path: Path) -> None:
    with pytest.raises(NotFittedError):
        ImageClassifier().predict(data[0])
    with pytest.raises(DataError, match="labels"):
        ImageClassifier().fit(data[0], data[1][:-1])
    with pytest.raises(DataError, match="missing"):
        ImageClassifier().fit([*data[0], str(tmp_path / "missing.jpg")], [*data[1], "discs"])
