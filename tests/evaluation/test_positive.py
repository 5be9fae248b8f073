"""Test the choice of the positive class of two."""

from __future__ import annotations

import numpy as np
import pytest

from headstart.config.settings import resolve
from headstart.errors import SettingError
from headstart.evaluation.positive import choose_positive

IDS = np.array([0, 0, 0, 1])


def test_rarer_class_is_positive() -> None:
    name, decision = choose_positive(None, ("defect", "good"), 1 - IDS)
    assert (name, decision.setting, decision.value) == ("defect", "positive", "defect")
    assert decision.evidence == {"num_positive": 1, "num_negative": 3}
    assert choose_positive(None, ("a", "b"), np.array([0, 1]))[0] == "b"


def test_explicit_positive_class_is_no_decision() -> None:
    assert choose_positive("good", ("defect", "good"), 1 - IDS) == ("good", None)
    assert choose_positive(None, ("a", "b", "c"), IDS) == (None, None)


@pytest.mark.parametrize("names", [("a",), ("a", "b", "c")])
def test_positive_class_needs_two_classes(names: tuple[str, ...]) -> None:
    with pytest.raises(SettingError, match=f"{len(names)} class"):
        choose_positive("a", names, IDS)


def test_unknown_positive_class_is_refused() -> None:
    with pytest.raises(SettingError) as caught:
        choose_positive("bad", ("defect", "good"), IDS)
    assert all(name in caught.value.hint for name in ("defect", "good"))


def test_positive_setting_and_aliases() -> None:
    assert resolve({"data": "x", "pos_label": "a"}).settings.positive == "a"
    with pytest.raises(SettingError, match="no effect on a detector"):
        resolve({"data": "x", "positive": "a", "task": "detect"})
