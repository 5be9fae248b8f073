from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from headstart.api.model import Model
from headstart.errors import BundleError
from headstart.export.parity import check_parity
from headstart.inference.runtime import Runtime


@pytest.fixture(scope="module")
def runtime(bundle_path: Path) -> Runtime:
    return Runtime(bundle_path, num_threads=2)


@pytest.fixture
def logits(runtime: Runtime, images: list[Path]) -> np.ndarray:
    return np.log(Model(runtime).predict_proba(images)) + 3  # softmax ignores a constant


def test_agreement_is_measured(runtime: Runtime, images: list[Path], logits: np.ndarray) -> None:
    parity = check_parity(runtime, images, logits)
    assert parity.to_json() == {
        "num_files": 9,
        "num_unreadable": 0,
        "label_agreement": 1.0,
        "max_difference": parity.max_difference,
        "tolerance": 1e-3,
        "max_ood_score_difference": None,
    }
    assert parity.max_difference < 1e-9


def test_difference_raises_with_file(runtime: Runtime, images: list[Path], logits: np.ndarray) -> None:
    logits[4, 1] += 20
    with pytest.raises(BundleError, match="image4") as caught:
        check_parity(runtime, images, logits)
    assert caught.value.exit_code == 1


def test_swapped_classes_raise(runtime: Runtime, images: list[Path], logits: np.ndarray) -> None:
    with pytest.raises(BundleError, match="differs from the trained one"):
        check_parity(runtime, images, logits[:, [1, 0, 2, 3]])


def test_small_differences_are_measured_and_pass(runtime: Runtime, images: list[Path], logits: np.ndarray) -> None:
    logits += np.random.default_rng(0).normal(size=logits.shape) * 1e-4
    assert 1e-7 < check_parity(runtime, images, logits).max_difference < 1e-3


def test_unreadable_files_are_skipped(runtime: Runtime, images: list[Path], logits: np.ndarray) -> None:
    logits[2] = np.nan
    logits[5, 0] = np.nan
    assert check_parity(runtime, images, logits).num_files == 7


def test_missing_files_are_counted(runtime: Runtime, images: list[Path], logits: np.ndarray, tmp_path: Path) -> None:
    parity = check_parity(runtime, [tmp_path / "gone.png", *images[1:]], logits)
    assert (parity.num_files, parity.num_unreadable) == (8, 1)
    with pytest.raises(BundleError, match="is readable"):
        check_parity(runtime, [tmp_path / "gone.png"] * 9, logits)


def test_number_and_time_are_bounded(runtime: Runtime, images: list[Path], logits: np.ndarray) -> None:
    many, expected = list(images) * 50, np.tile(logits, (50, 1))
    assert check_parity(runtime, many, expected).num_files == 200
    assert check_parity(runtime, many, expected, max_files=30).num_files == 30
    assert check_parity(runtime, many, expected, budget_s=0).num_files == 20
