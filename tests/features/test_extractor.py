"""Test the cache key of exported graphs, and device checks."""

from __future__ import annotations

from pathlib import Path

import pytest

from headstart.backbones.cards import find_card
from headstart.errors import SettingError
from headstart.events import EventStream
from headstart.features import extractor as feature_extraction
from headstart.features.extractor import _weights_key


def test_weights_file_key_is_its_content(tmp_path: Path) -> None:
    card = find_card("efficientnet_lite0")
    file = tmp_path / "mine.pth"
    file.write_bytes(b"one")
    first = _weights_key(card, str(file))
    file.write_bytes(b"two")
    assert _weights_key(card, str(file)) != first
    file.write_bytes(b"one")
    assert _weights_key(card, str(file)) == first


def test_published_weights_key_is_tag_and_digest() -> None:
    lite, vgg = find_card("efficientnet_lite0"), find_card("vgg16")
    keys = {_weights_key(lite, None), _weights_key(vgg, None), _weights_key(lite, "another_tag")}
    assert len(keys) == 3


@pytest.mark.parametrize("device", ["foo", "cuda:99"])
def test_missing_device_is_refused_early(device: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torch")
    monkeypatch.setattr(feature_extraction, "open_graph", lambda *a, **k: pytest.fail("a graph was opened"))
    with pytest.raises(SettingError, match=device):
        options = feature_extraction.ExtractorOptions("efficientnet_lite0", device=device)
        feature_extraction.open_embedder(options, EventStream(), root=tmp_path)
