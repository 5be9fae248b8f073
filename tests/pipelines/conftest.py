"""Fixtures for tests of training from decoded images."""

from __future__ import annotations

from typing import Any

import pytest

from headstart.features.decoded_cache import DecodedImages


@pytest.fixture
def decodes(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """Return a list that grows with every image a training decodes, by its key: file and decoding rule."""
    decode, decoded = DecodedImages._decode, []

    def counted(self: DecodedImages, key: bytes, *args: Any) -> Any:
        decoded.append(key)
        return decode(self, key, *args)

    monkeypatch.setattr(DecodedImages, "_decode", counted)
    return decoded
