"""What holds for every training."""

from __future__ import annotations

import pytest

from headstart.errors import HeadstartError
from headstart.workflow.training_jobs import check_frozen


def test_frozen_tensors_that_changed_stop_the_run() -> None:
    check_frozen("abc", "abc")
    with pytest.raises(HeadstartError, match="stay frozen"):
        check_frozen("abc", "abd")
