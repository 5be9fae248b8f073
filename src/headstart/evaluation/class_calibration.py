"""Fit vector scaling (a scale and a shift per class) on top of the head's temperature, if it helps.

Most heads do not need it (`benchmarks/bench_uncertainty.py`). A fit on the scored samples themselves comes first;
only a gain beyond chance for the number of parameters is then cross-fitted.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from headstart.evaluation.calibration import SAMPLES_PER_PARAMETER, calibrate, fit_vector_scaling
from headstart.evaluation.softmax import log_softmax
from headstart.probe.blas_threads import one_blas_thread
from headstart.probe.probe import ProbeFit
from headstart.types.codes import DecisionReason
from headstart.types.records import Decision

__all__ = ["scale_classes"]

_MAX_VALUES = 2_000_000  # total logits; above, the search takes longer than fitting the head


def scale_classes(
    fit: ProbeFit, class_ids: NDArray[np.int64], groups: NDArray[np.int64] | None, *, seed: int = 0
) -> tuple[ProbeFit, Decision | None]:
    """Fold vector scaling into the head where its gain exceeds chance.

    Args:
        fit: The head, its out-of-fold logits at its temperature.
        class_ids: (N,) of its training images.
        groups: (N,) group ids of related images, or None.
        seed: Random seed of the folds.

    Returns:
        The fit and the decision; the unchanged fit and None where there are too few images.
    """
    num, num_classes = fit.oof_logits.shape
    is_enough = SAMPLES_PER_PARAMETER * 2 * num_classes <= num <= _MAX_VALUES // num_classes
    if not is_enough or fit.unscorable.any() or np.bincount(class_ids, minlength=num_classes).min() == 0:
        return fit, None
    with one_blas_thread():
        logits = fit.oof_logits.astype(np.float64)
        rows = np.arange(num)
        scale, shift = fit_vector_scaling(logits, class_ids)
        before, after = (-log_softmax(z)[rows, class_ids] for z in (logits, logits * scale + shift))
        gain = float((before - after).sum())
        if gain <= 2 * num_classes - 1:
            return fit, None
        calibration = calibrate(logits, class_ids, groups=groups, num_folds=5, seed=seed)
    reason, evidence = DecisionReason.CALIBRATIONS_COMPARED, {"log_loss": calibration.log_loss, "num_samples": num}
    if calibration.kind != "vector":
        return fit, Decision("probe.calibration", "temperature", reason, evidence=evidence)
    head = fit.head
    scales, shifts = calibration.scale.astype(np.float32), calibration.shift.astype(np.float32)
    scaled = replace(
        head, weight=head.weight * scales[:, None], bias=head.bias * scales + shifts * np.float32(head.temperature)
    )
    losses = -log_softmax(calibration.logits)[rows, class_ids]
    hits = calibration.logits.argmax(axis=1) == class_ids
    return replace(
        fit,
        head=scaled,
        oof_logits=calibration.logits.astype(np.float32),
        candidate_names=(*fit.candidate_names[:-1], "before vector scaling", "final"),
        candidate_losses=np.concatenate([fit.candidate_losses, losses[None].astype(np.float32)]),
        candidate_hits=np.concatenate([fit.candidate_hits, hits[None]]),
    ), Decision("probe.calibration", "vector_scaling", reason, evidence=evidence)
