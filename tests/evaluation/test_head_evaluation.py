"""Test which logits of a model are held out."""

from __future__ import annotations

import numpy as np

from headstart.evaluation.head_evaluation import ModelLogits
from headstart.types.records import Split

FINAL = np.zeros((5, 2), dtype=np.float32)
SPLIT = Split(np.array(["train", "train", "train", "val", "test"]), None, "given", None, 0)


def logits_with(scored: list[int]) -> ModelLogits:
    out_of_fold = np.array([[i, i] for i in scored], dtype=np.float32)
    return ModelLogits(FINAL, np.array(scored), out_of_fold, SPLIT.where("train"))


def test_training_images_have_out_of_fold_logits() -> None:
    logits = logits_with([2, 0])
    assert logits.held_out(SPLIT)[:, 0].tolist() == [0, 0, 2, 0, 0]
    assert logits.is_held_out(SPLIT).tolist() == [True, False, True, True, True]
    assert not FINAL.any()  # a copy


def test_validation_images_keep_final_logits() -> None:
    logits = logits_with([3])  # a user's validation split was scored instead of folds
    assert not logits.held_out(SPLIT).any()
    assert logits.is_held_out(SPLIT).tolist() == [False, False, False, True, True]
