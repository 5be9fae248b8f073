from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from headstart.deploy.runtime import Runtime


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("batch", [1, 2, 5, 16])
def test_same_bits_whatever_the_batch_and_the_threads(
    bundle_path: Path, pictures: list[Path], threads: int, batch: int
) -> None:
    alone = np.concatenate([Runtime(bundle_path, threads=1).predict_proba(p) for p in pictures])
    assert np.array_equal(Runtime(bundle_path, threads=threads).predict_proba(pictures, batch=batch), alone)
