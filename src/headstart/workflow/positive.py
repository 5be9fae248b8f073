"""Choose the positive class of two: the one that the user names, else the rarer one in training."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from headstart.errors import SettingError
from headstart.evaluation.binary import rarer_class
from headstart.messages.numbers import pluralize
from headstart.records import Decision
from headstart.types import DecisionReason

__all__ = ["check_positive", "choose_positive"]


def check_positive(asked: str | None, class_names: Sequence[str]) -> None:
    """Refuse a positive class that does not exist or has no effect.

    Raises:
        SettingError: There are not two classes, or `asked` is neither of them.
    """
    if asked is None:
        return
    if len(class_names) != 2:
        raise SettingError(
            f"`positive` has no effect with {pluralize(len(class_names), 'class', 'classes')}: only one of two classes "
            "can be the positive one.",
            hint="leave `positive` out",
        )
    if asked not in class_names:
        raise SettingError(
            f"`positive` cannot be {asked!r}: there is no such class.",
            hint=f"the classes are {class_names[0]!r} and {class_names[1]!r}",
        )


def choose_positive(
    asked: str | None, class_names: Sequence[str], class_ids: NDArray[np.int64]
) -> tuple[str | None, Decision | None]:
    """Return the positive class and, where the user names none, the decision for it; (None, None) unless of two.

    Args:
        asked: The user's choice, or None.
        class_names: Names of all classes.
        class_ids: (N,) classes of the training images.

    Raises:
        SettingError: See `check_positive`.
    """
    check_positive(asked, class_names)
    if asked is not None or len(class_names) != 2:
        return asked, None
    place = rarer_class(class_ids)
    num_positive = int((class_ids == place).sum())
    num_negative = len(class_ids) - num_positive
    evidence = {"num_positive": num_positive, "num_negative": num_negative}
    reason = DecisionReason.POSITIVE_CLASS_IS_RARER
    return class_names[place], Decision("positive", class_names[place], reason, evidence=evidence)
