"""Test normalization: nearly constant features, single rows, JSON round trip."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headstart.errors import DataError
from headstart.probe.normalize import Normalizer, fit_normalizer


def blocks_of(num=50, seed=0):
    rng = np.random.default_rng(seed)
    return {
        "stage": rng.normal(3.0, 2.0, (num, 7)).astype(np.float32),
        "embedding": rng.gamma(1.0, 1.0, (num, 11)).astype(np.float32),
    }


def test_normalization_matches_definition():
    blocks = blocks_of()
    blocks["stage"][4, 2] = 1000.0  # an outlier beyond 5 deviations
    normalized = fit_normalizer(blocks)(blocks)
    x = blocks["stage"].astype(np.float64)
    z = np.clip((x - x.mean(0)) / x.std(0), -5, 5)
    np.testing.assert_allclose(normalized[:, :7], z / np.linalg.norm(z, axis=1, keepdims=True), atol=1e-5)
    assert normalized.dtype == np.float32
    assert normalized.shape == (50, 18)


def test_nearly_constant_feature_is_not_amplified():
    blocks = blocks_of()
    blocks["stage"][:, 0] = 1.0
    blocks["stage"][9, 0] = 1.01  # one image differs: plain standardization gives z = 7
    normalizer = fit_normalizer(blocks)
    alive = np.median(blocks["stage"][:, 1:].std(0))
    assert normalizer.scales[0][0] == pytest.approx(0.1 * alive, rel=0.05)
    z = (blocks["stage"][9, 0] - normalizer.means[0][0]) / normalizer.scales[0][0]
    assert abs(z) < 0.1


@pytest.mark.parametrize("num_constant", [1, 6, 7])
def test_constant_features_are_zero(num_constant):
    blocks = blocks_of()
    blocks["stage"][:, :num_constant] = 0.3
    normalized = fit_normalizer(blocks)(blocks)
    assert np.isfinite(normalized).all()
    np.testing.assert_allclose(normalized[:, :num_constant], 0.0, atol=1e-5)
    assert np.abs(normalized[:, 7:]).max() > 0.1


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 40), st.floats(1e-3, 1e3), st.floats(-100, 100), st.integers(0, 999))
def test_row_norm_is_block_weight(num, scale, shift, seed):
    rng = np.random.default_rng(seed)
    blocks = {"a": (shift + scale * rng.normal(size=(num + 1, 5))).astype(np.float32)}
    normalized = fit_normalizer(blocks).restrict(("a",), (0.5,))(blocks)
    np.testing.assert_allclose(np.linalg.norm(normalized, axis=1), 0.5, rtol=1e-4)


def test_single_row_matches_batch():
    blocks = blocks_of(5000)
    normalizer = fit_normalizer(blocks)
    many = normalizer(blocks)
    alone = normalizer({name: block[4321:4322] for name, block in blocks.items()})
    np.testing.assert_array_equal(alone[0], many[4321])


def test_json_and_arrays_round_trip():
    blocks = blocks_of()
    normalizer = fit_normalizer(blocks).restrict(("stage", "embedding"), (0.5, 1.0))
    again = Normalizer.from_json(json.loads(json.dumps(normalizer.to_json())), normalizer.arrays())
    np.testing.assert_array_equal(again(blocks), normalizer(blocks))
    with pytest.raises(ValueError, match="18 are expected"):
        Normalizer.from_json(normalizer.to_json(), {"mean": np.zeros(3), "scale": np.ones(3)})


def test_subset_needs_no_other_blocks():
    blocks = blocks_of()
    whole = fit_normalizer(blocks)
    part = whole.restrict(("embedding",), (1.0,))
    np.testing.assert_array_equal(part({"embedding": blocks["embedding"]}), whole(blocks)[:, 7:])


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda b: b["stage"].__setitem__((3, 2), np.nan), "`stage` contain values that are not finite"),
        (lambda b: b.__setitem__("stage", b["stage"][:3]), "one row per image"),
        (lambda b: b.clear(), "no features"),
    ],
)
def test_non_finite_features_raise(spoil, message):
    blocks = blocks_of()
    spoil(blocks)
    with pytest.raises(DataError, match=message):
        fit_normalizer(blocks)


def test_invalid_blocks_raise():
    normalizer = fit_normalizer(blocks_of())
    with pytest.raises(DataError, match="`embedding` are missing"):
        normalizer({"stage": np.zeros((2, 7), dtype=np.float32)})
    with pytest.raises(DataError, match=r"\(N, 7\) is expected"):
        normalizer({**blocks_of(), "stage": np.zeros((50, 6), dtype=np.float32)})
