"""Test class weights from a file, a JSON text and a dict."""

import json
from pathlib import Path

import numpy as np
import pytest

from headstart.config.keyword_settings import merge_keywords
from headstart.errors import SettingError
from headstart.probe.class_weights import class_factors

IDS, NAMES = np.array([0, 0, 1]), ("cat", "dog")


def test_dict_file_and_text_are_equal(tmp_path: Path) -> None:
    (tmp_path / "w.json").write_text('{"dog": 5}')
    merged = merge_keywords("x", None, {"class_weights": {"dog": np.float32(5)}})
    text = merged.values["probe.class_weights"]
    for source in (text, json.dumps({"dog": 5}), str(tmp_path / "w.json")):
        factors = class_factors(source, IDS, NAMES)
        assert factors is not None
        assert factors.tolist() == [1.0, 5.0]


@pytest.mark.parametrize("weights", [{"dgo": 5}, {"dog": "heavy"}, {"dog": -1}, {"dog": None}])
def test_wrong_weights_are_refused(weights: dict[str, object]) -> None:
    text = merge_keywords("x", None, {"class_weights": weights}).values["probe.class_weights"]
    with pytest.raises(SettingError):
        class_factors(text, IDS, NAMES)
