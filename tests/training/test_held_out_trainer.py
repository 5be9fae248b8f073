"""Test the evaluation setup of trainings with held-out images."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch")

from headstart.training.held_out_trainer import HeldOutTrainings
from headstart.training.plan import default_plan
from headstart.types.codes import EvaluationProtocol, EvaluationSetup, SplitSource


@pytest.mark.parametrize(
    ("num_folds", "num_used", "protocol", "source", "fraction", "folds_used"),
    [
        (0, 1, EvaluationProtocol.VALIDATION_SPLIT, SplitSource.USER, None, None),
        (5, 1, EvaluationProtocol.VALIDATION_SPLIT, SplitSource.MADE, 0.2, None),
        (3, 2, EvaluationProtocol.K_FOLD, None, None, 2),
        (3, 3, EvaluationProtocol.K_FOLD, None, None, None),
    ],
)
def test_setup_tells_how_images_were_held_out(
    num_folds: int,
    num_used: int,
    protocol: EvaluationProtocol,
    source: SplitSource | None,
    fraction: float | None,
    folds_used: int | None,
) -> None:
    none = np.zeros(0, dtype=np.int64)
    rows = np.zeros((0, 2), dtype=np.float32)
    trainings = HeldOutTrainings(
        default_plan("finetune", "stage7", 100, 2), num_folds, num_used, none, none, rows, rows[None], ()
    )
    assert trainings.setup == EvaluationSetup(
        protocol,
        num_folds=num_folds if protocol is EvaluationProtocol.K_FOLD else None,
        num_folds_used=folds_used,
        held_out_fraction=fraction,
        split_source=source,
        is_used_for_selection=protocol is EvaluationProtocol.VALIDATION_SPLIT,
    )
