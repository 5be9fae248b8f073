"""The positive class of two: named by the user, or the rarer one in training."""

from __future__ import annotations

import numpy as np
import pytest

from headstart.config import resolve
from headstart.errors import SettingError
from headstart.workflow.positive import choose_positive

IDS = np.array([0, 0, 0, 1])


def test_the_rarer_class_is_positive_and_of_two_equal_ones_the_last() -> None:
    name, decision = choose_positive(None, ("defect", "good"), 1 - IDS)
    assert (name, decision.setting, decision.value) == ("defect", "positive", "defect")
    assert decision.evidence == {"num_positive": 1, "num_negative": 3}
    assert choose_positive(None, ("a", "b"), np.array([0, 1]))[0] == "b"


def test_the_users_choice_needs_no_decision() -> None:
    assert choose_positive("good", ("defect", "good"), 1 - IDS) == ("good", None)
    assert choose_positive(None, ("a", "b", "c"), IDS) == (None, None)


@pytest.mark.parametrize("names", [("a",), ("a", "b", "c")])
def test_other_than_two_classes_are_refused(names: tuple[str, ...]) -> None:
    with pytest.raises(SettingError, match=f"{len(names)} class"):
        choose_positive("a", names, IDS)


def test_an_unknown_class_is_refused_with_the_names_of_both() -> None:
    with pytest.raises(SettingError) as caught:
        choose_positive("bad", ("defect", "good"), IDS)
    assert all(name in caught.value.hint for name in ("defect", "good"))


def test_the_setting_and_its_spellings() -> None:
    assert resolve({"data": "x", "pos_label": "a"}).settings.positive == "a"
    with pytest.raises(SettingError, match="no effect on a detector"):
        resolve({"data": "x", "positive": "a", "task": "detect"})
