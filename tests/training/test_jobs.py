"""Test checks shared by all trainings."""

from __future__ import annotations

import pytest

from headstart.errors import HeadstartError
from headstart.training.jobs import check_frozen


def test_changed_frozen_tensors_raise() -> None:
    check_frozen("abc", "abc")
    with pytest.raises(HeadstartError, match="frozen parameters"):
        check_frozen("abc", "abd")
