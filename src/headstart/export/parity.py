"""Verify a bundle against the trained model on your files, from decoding to softmax."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headstart.errors import BundleError
from headstart.inference.output_decoder import OutputDecoder
from headstart.inference.runtime import Runtime, softmax
from headstart.messages.numbers import pluralize
from headstart.preprocessing.image_spec import ImageError

__all__ = ["Parity", "check_parity"]

_MAX_FILES = 200
_MIN_FILES = 20  # so many are compared even where they are slow
_BUDGET_S = 1.5  # with opening the session and what is under way, 2 s
_NOVELTY_TOLERANCE = 0.05  # a twentieth of the spread of known images
_TOLERANCE = 1e-3  # of a probability; float32 on another engine or processor differs by 1e-6 to 1e-4


@dataclass(frozen=True, slots=True)
class Parity:
    """Agreement of a bundle with the trained model.

    Attributes:
        num_files: Files that were compared.
        num_unreadable: Files that could be read in training and cannot be read now.
        label_agreement: Fraction of files with the same most probable class, in [0, 1].
        max_difference: Largest difference of any probability.
        tolerance: Largest difference that is accepted.
        max_ood_score_difference: Largest difference of the OOD score; None where the model tells none.
    """

    num_files: int
    num_unreadable: int
    label_agreement: float
    max_difference: float
    tolerance: float = _TOLERANCE
    max_ood_score_difference: float | None = None

    def to_json(self) -> dict[str, Any]:
        """Return plain values, for `bundle.json` and `metrics.json`."""
        return asdict(self)


def check_parity(
    runtime: Runtime,
    sources: Sequence[Any],
    expected_logits: NDArray[np.floating[Any]],
    *,
    expected_ood_scores: NDArray[np.float64] | None = None,
    max_files: int = _MAX_FILES,
    budget_s: float = _BUDGET_S,
    tolerance: float = _TOLERANCE,
) -> Parity:
    """Compare predictions of a bundle with those of training.

    Args:
        runtime: The bundle.
        sources: Files (or images) in the order to try them; a random order makes the sample fair.
        expected_logits: (N, K) of the training path, temperature applied; rows with NaN are passed over.
        expected_ood_scores: (N,) of the training path, where the bundle tells OOD score.
        max_files: How many are compared at most.
        budget_s: No new files are taken after that time, once 20 are compared.
        tolerance: Largest difference of a probability that is accepted.

    Returns:
        The comparison.

    Raises:
        BundleError: A probability differs by more than the tolerance, a label differs that is not a tie
            within it, a OOD score by more than 0.05, or no file could be compared.
    """
    usable = np.flatnonzero(np.isfinite(expected_logits).all(axis=1))[:max_files]
    expected = softmax(expected_logits[usable])
    started = time.monotonic()
    differences: list[float] = []
    num_same = num_unreadable = 0
    worst = ""
    decoder = OutputDecoder(runtime.bundle)
    off: list[float] = []
    with closing(runtime.iter_outputs((sources[i] for i in usable), decoder.outputs)) as outputs:
        for i, (name, row), probabilities in zip(usable, outputs, expected, strict=False):
            if isinstance(row, ImageError):
                num_unreadable += 1
                continue
            actual = softmax(row[0])
            difference = float(np.abs(actual - probabilities).max())
            if difference >= max(differences, default=0.0):
                worst = name
            differences.append(difference)
            if expected_ood_scores is not None:
                off.append(abs((decoder.ood_score(actual, row) or 0.0) - float(expected_ood_scores[i])))
            # Two classes as probable as each other may change places by a rounding.
            num_same += bool(probabilities[actual.argmax()] >= probabilities.max() - 2 * tolerance)
            if len(differences) >= _MIN_FILES and time.monotonic() - started > budget_s:
                break
    if not differences:
        raise BundleError(
            f"the saved model could not be compared with its training: none of "
            f"{pluralize(len(usable), 'file')} can be read now.",
            hint="were the images moved while training?",
        )
    share = num_same / len(differences)
    furthest = max(off) if off else None
    parity = Parity(len(differences), num_unreadable, share, max(differences), tolerance, furthest)
    if not parity.max_difference <= tolerance or num_same < len(differences):
        raise BundleError(
            f"the saved model differs from the trained one: on `{worst}` a probability differs by "
            f"{parity.max_difference:.2g} (at most {tolerance:g} is accepted), and {num_same:,} of "
            f"{pluralize(len(differences), 'label')} agree.",
            hint="please report this with your versions of onnxruntime, Pillow and numpy",
        )
    if furthest is not None and not furthest <= _NOVELTY_TOLERANCE:
        raise BundleError(
            f"the saved model finds an image {furthest:.2g} more or less unusual than training did "
            f"(at most {_NOVELTY_TOLERANCE:g} is accepted).",
            hint="please report this with your versions of onnxruntime, Pillow and numpy",
        )
    return parity
