"""Isolate the caches of every backbone test."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def private_caches(tmp_path, monkeypatch):
    """Isolate the caches of headstart, the hub and torch; no proxies, tokens or mirrors from outside."""
    monkeypatch.setenv("HEADSTART_CACHE", str(tmp_path / "headstart"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    for name in ("HF_ENDPOINT", "HEADSTART_MIRROR", "HEADSTART_OFFLINE", "HF_TOKEN", "HTTP_PROXY", "http_proxy"):
        monkeypatch.delenv(name, raising=False)
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    return tmp_path
