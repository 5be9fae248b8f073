"""Test the store of imported weights: import, fetch, copy; and bad checkpoints."""

from __future__ import annotations

import json
import os
import pickle
import struct

import pytest
import torch
from safetensors.torch import save_file

from headstart.backbones import load_backbone
from headstart.backbones.build import build_network
from headstart.backbones.cards import find_card
from headstart.backbones.store import fetch_weights, import_weights
from headstart.backbones.tensors import adapt_channels, fill_network, read_tensors
from headstart.backbones.weights import find_weights, weights_root
from headstart.errors import UsageError, WeightsError

SMALL = "shufflenet_v2_x0_5"


@pytest.fixture(scope="module")
def small_network():
    torch.manual_seed(0)
    return build_network("torchvision", SMALL)


@pytest.fixture
def small_file(small_network, tmp_path):
    path = tmp_path / "mine.pth"
    torch.save(small_network.state_dict(), path)
    return path


def same(a, b):
    x = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        return torch.allclose(a(x), b(x), rtol=1e-5, atol=1e-7)


def test_user_weights_are_imported_next_to_published_ones(small_file, small_network):
    (card,) = import_weights(small_file, f"{SMALL}.mine")
    assert card.weights_tag == f"{SMALL}.mine"
    assert card.top1 is None
    assert card.license == ""
    for request in ({"name": f"{SMALL}.mine"}, {"name": SMALL, "weights": "mine"}):
        backbone = load_backbone(**request, offline=True)
        assert same(backbone.module, small_network)
        assert backbone.card.digest == card.digest
        assert "no published digest" in backbone.notes[0]
    with pytest.raises(WeightsError, match="offline mode is on"):
        load_backbone(SMALL, offline=True)


def test_unpublished_file_needs_its_own_tag(small_file):
    with pytest.raises(WeightsError, match="is not the published file") as failure:
        import_weights(small_file, SMALL)
    assert f"--as {SMALL}.mine" in failure.value.hint


@pytest.mark.long
def test_weights_for_zfnet_are_imported_under_its_name(tmp_path):
    with pytest.raises(WeightsError, match="no public weights") as failure:
        load_backbone("zfnet", offline=True)
    assert "--weights" in failure.value.hint
    torch.manual_seed(0)
    network = build_network("headstart", "zfnet")
    path = tmp_path / "zf.safetensors"
    save_file(network.state_dict(), path)
    import_weights(path, "ZFNet")
    assert load_backbone("zfnet", offline=True).card.weights_tag == "zfnet.imported"


def test_changed_store_file_raises(small_file):
    import_weights(small_file, f"{SMALL}.mine")
    stored = weights_root() / "store" / f"{SMALL}.mine" / "model.safetensors"
    content = bytearray(stored.read_bytes())
    content[-1] ^= 1
    stored.write_bytes(content)
    with pytest.raises(WeightsError, match="changed after import"):
        load_backbone(f"{SMALL}.mine", offline=True)


def test_weights_are_copied_to_an_offline_machine(tmp_path, monkeypatch):
    (entry,) = fetch_weights(["EfficientNet-Lite0"], tmp_path / "carry")
    assert entry["license"] == "Apache-2.0"
    assert entry["sha256"] == find_card("efficientnet_lite0").digest
    monkeypatch.setenv("HEADSTART_CACHE", str(tmp_path / "other machine"))
    monkeypatch.setattr("headstart.backbones.weights.find_package_file", lambda card: None)
    (card,) = import_weights(tmp_path / "carry")
    assert card.name == "efficientnet_lite0"
    backbone = load_backbone("efficientnet_lite0", offline=True)
    assert "imported from a file" in backbone.notes[0]
    file = tmp_path / "carry" / entry["file"]
    file.write_bytes(file.read_bytes()[:-10])
    with pytest.raises(WeightsError, match="SHA-256"):
        import_weights(tmp_path / "carry")


def test_folder_without_valid_manifest_raises(tmp_path):
    with pytest.raises(WeightsError, match="models fetch"):
        import_weights(tmp_path)
    (tmp_path / "headstart-weights.json").write_text(json.dumps({"weights": [{"name": "x"}]}))
    with pytest.raises(WeightsError, match="damaged"):
        import_weights(tmp_path)
    with pytest.raises(UsageError, match="network"):
        import_weights(tmp_path / "some.pth")


def test_local_file_is_loaded_by_path(small_file, small_network):
    backbone = load_backbone(SMALL, weights=str(small_file))
    assert same(backbone.module, small_network)
    assert backbone.card.source == "file:mine.pth"
    assert len(backbone.card.digest) == 64


def test_state_dict_wrappers_are_removed(small_network, tmp_path):
    path = tmp_path / "trainer.pth"
    state = {f"module.{k}": v for k, v in small_network.state_dict().items()}
    torch.save({"epoch": 3, "state_dict": state}, path)
    assert same(load_backbone(SMALL, weights=str(path)).module, small_network)


def test_weights_of_another_network_list_differences(small_file):
    with pytest.raises(WeightsError, match="not weights of ResNet-18") as failure:
        load_backbone("resnet18", weights=str(small_file))
    assert "missing in the file: conv1.weight" in failure.value.message
    assert "not in the network: " in failure.value.message
    assert "and " in failure.value.message
    assert "more" in failure.value.message
    with pytest.raises(
        WeightsError, match=r"different shapes: stage2\.0\.branch1\.2\.weight is 24x24x1x1 in the file and 122"
    ) as failure:
        torch.manual_seed(0)
        load_backbone("shufflenet_v2_x2_0", weights=str(small_file))
    assert "more" in failure.value.message


def test_other_number_of_classes_states_layer_and_fix(tmp_path):
    path = tmp_path / "ten.pth"
    torch.save(build_network("torchvision", SMALL, num_classes=10).state_dict(), path)
    with pytest.raises(WeightsError, match="10 classes") as failure:
        load_backbone(SMALL, weights=str(path))
    assert "fc.weight is 10x1024 in the file and 1000x1024 in the network" in failure.value.message
    assert "num_classes=10" in failure.value.hint
    backbone = load_backbone(SMALL, weights=str(path), num_classes=10)
    assert backbone.card.num_classes == 10
    (card,) = import_weights(path, f"{SMALL}.ten", num_classes=10)
    assert card.num_classes == 10
    assert load_backbone(f"{SMALL}.ten").module.fc.out_features == 10


class Evil:
    """An object that runs a command when it is unpickled."""

    def __reduce__(self):
        return os.system, ("touch hacked",)


@pytest.mark.parametrize("how", ["torch", "pickle"])
def test_checkpoint_with_code_raises(how, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "evil.pth"
    if how == "torch":
        torch.save({"state_dict": {"a": torch.zeros(1)}, "extra": Evil()}, path)
    else:
        path.write_bytes(pickle.dumps(Evil()))
    with pytest.raises(WeightsError, match="run code") as failure:
        load_backbone(SMALL, weights=str(path))
    assert "safetensors" in failure.value.hint
    assert not (tmp_path / "hacked").exists()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("empty.pth", b""),
        ("text.pth", b"hello, I am no checkpoint"),
        ("half.safetensors", struct.pack("<Q", 1 << 40)),
        ("empty.safetensors", b""),
    ],
)
def test_damaged_files_raise(name, content, tmp_path):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(WeightsError, match=name):
        read_tensors(tmp_path / name)


def test_truncated_and_foreign_checkpoints_raise(small_file, tmp_path):
    content = small_file.read_bytes()
    small_file.write_bytes(content[: len(content) // 2])
    with pytest.raises(WeightsError, match="PyTorch checkpoint"):
        read_tensors(small_file)
    torch.save([1, 2, 3], tmp_path / "list.pth")
    with pytest.raises(WeightsError, match="dictionary of named tensors"):
        read_tensors(tmp_path / "list.pth")
    with pytest.raises(WeightsError, match="does not exist"):
        read_tensors(tmp_path / "nothing.pth")


def test_background_class_is_dropped():
    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.pretrained_cfg = {"label_offset": 1}
            self.fc = torch.nn.Linear(2, 3)

    network = Net()
    weight = torch.arange(8.0).reshape(4, 2)
    fill_network(network, {"fc.weight": weight, "fc.bias": torch.arange(4.0)}, find_card("nasnet"))
    assert torch.equal(network.fc.weight, weight[1:])


def test_one_and_four_channels_keep_logits_of_gray_image(small_network):
    state = small_network.state_dict()
    gray = torch.rand(1, 1, 64, 64)
    with torch.no_grad():
        expected = small_network(gray.expand(1, 3, 64, 64))
        for channels in (1, 3, 4, 6):
            network = build_network("torchvision", SMALL)
            network.load_state_dict(state)
            note = adapt_channels(network, channels)
            assert f"{channels} channel" in note
            output = network(gray.expand(1, channels, 64, 64))
            if channels != 4:  # with four, one of the colors counts twice
                assert torch.allclose(output, expected, rtol=1e-4, atol=1e-6)
    backbone = load_backbone(SMALL, weights="none", in_channels=1, image_size=64)
    assert backbone.suffix("stage2")(backbone.prefix("stage2")(gray)).shape == (1, 1000)
    assert "summed" in backbone.notes[-1]


def test_pixel_rearranging_stem_supports_three_channels_only(monkeypatch):
    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = torch.nn.Conv2d(48, 8, 1)

    with pytest.raises(WeightsError, match="three channels only"):
        adapt_channels(Net(), 1)


def test_weights_none_is_random_and_offline():
    backbone = load_backbone("squeezenet1_1", weights="none")
    assert backbone.card.weights_tag == ""
    assert "scratch" in backbone.notes[0]
    with pytest.raises(WeightsError):
        find_weights(backbone.card)
