"""Choose the positive class of two: the user's choice, else the rarer class in training."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from headstart.errors import SettingError
from headstart.evaluation.binary import rarer_class
from headstart.messages.numbers import pluralize
from headstart.types.codes import DecisionReason
from headstart.types.records import Decision

__all__ = ["check_positive", "choose_positive"]


def check_positive(requested: str | None, class_names: Sequence[str]) -> None:
    """Raise an error if the positive class does not exist or has no effect.

    Raises:
        SettingError: There are not two classes, or `requested` is neither of them.
    """
    if requested is None:
        return
    if len(class_names) != 2:
        raise SettingError(
            f"`positive` requires exactly two classes; there are {pluralize(len(class_names), 'class', 'classes')}.",
            hint="remove `positive`",
        )
    if requested not in class_names:
        raise SettingError(
            f"`positive` is {requested!r}, which is not a class.",
            hint=f"classes: {class_names[0]!r} and {class_names[1]!r}",
        )


def choose_positive(
    requested: str | None, class_names: Sequence[str], class_ids: NDArray[np.int64]
) -> tuple[str | None, Decision | None]:
    """Return the positive class and, if it was not requested, the decision; (None, None) unless two classes.

    Args:
        requested: The user's choice, or None.
        class_names: Names of all classes.
        class_ids: (N,) classes of the training images.

    Raises:
        SettingError: See `check_positive`.
    """
    check_positive(requested, class_names)
    if requested is not None or len(class_names) != 2:
        return requested, None
    positive_id = rarer_class(class_ids)
    num_positive = int((class_ids == positive_id).sum())
    num_negative = len(class_ids) - num_positive
    evidence = {"num_positive": num_positive, "num_negative": num_negative}
    reason = DecisionReason.POSITIVE_CLASS_IS_RARER
    return class_names[positive_id], Decision("positive", class_names[positive_id], reason, evidence=evidence)
