"""What tests of training from decoded pictures share."""

from __future__ import annotations

from typing import Any

import pytest

from headstart.features.decoded import DecodedPictures


@pytest.fixture
def decodes(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """Grows with every picture that a training decodes, by its key: file and decoding rule."""
    decode, seen = DecodedPictures._decode, []

    def counted(self: DecodedPictures, key: bytes, *args: Any) -> Any:
        seen.append(key)
        return decode(self, key, *args)

    monkeypatch.setattr(DecodedPictures, "_decode", counted)
    return seen
