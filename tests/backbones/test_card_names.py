"""Test names and cards: spellings, ambiguity, unknown names, image sizes."""

from __future__ import annotations

import subprocess
import sys

import pytest

from headstart.backbones.cards import find_card, list_cards, normalize_name
from headstart.backbones.library import library_table
from headstart.errors import UsageError

KERAS = {
    "Xception": "xception", "VGG16": "vgg16", "VGG19": "vgg19", "ResNet50": "resnet50", "ResNet101": "resnet101",
    "ResNet152": "resnet152", "InceptionV3": "inception_v3", "InceptionResNetV2": "inception_resnet_v2",
    "MobileNet": "mobilenetv1", "MobileNetV2": "mobilenetv2", "MobileNetV3Large": "mobilenetv3_large",
    "MobileNetV3Small": "mobilenetv3_small", "DenseNet121": "densenet121", "DenseNet169": "densenet169",
    "DenseNet201": "densenet201", "NASNetLarge": "nasnet", "EfficientNetB0": "efficientnet_b0",
    "EfficientNetB4": "efficientnet_b4", "ConvNeXtTiny": "convnext_tiny", "ConvNeXtBase": "convnext_base",
}  # fmt: skip


@pytest.mark.parametrize("spelling", KERAS)
def test_spellings_of_keras_work(spelling):
    assert find_card(spelling).name == KERAS[spelling]


@pytest.mark.parametrize(
    ("spelling", "name"),
    [
        ("PNASNet-5-Large", "pnasnet5_large"),
        ("pnasnet5large", "pnasnet5_large"),
        ("Inception v1", "googlenet"),
        ("GoogLeNet", "googlenet"),
        ("resnext-50", "resnext50"),
        ("ShuffleNetV2", "shufflenet_v2_x1_0"),
        ("mobilenet_v2", "mobilenetv2"),
        ("EFFICIENTNET lite 0", "efficientnet_lite0"),
        ("VGG16 with batch norm", "vgg16_bn"),
        ("vgg16_bn.tv_in1k", "vgg16_bn"),
    ],
)
def test_names_ignore_case_dashes_and_underscores(spelling, name):
    assert find_card(spelling).name == name


def test_every_spelling_matches_exactly_one_network():
    known = {}
    for card in list_cards():
        for spelling in (card.name, card.title, *card.aliases):
            assert known.setdefault(normalize_name(spelling), card.name) == card.name
            assert find_card(spelling).name == card.name


def test_weights_tag_after_dot_selects_other_weights():
    assert find_card("resnet50").weights_tag == "resnet50.tv_in1k"
    assert find_card("ResNet50.a1_in1k").weights_tag == "resnet50.a1_in1k"
    assert find_card("resnet50.IMAGENET1K_V2").source == "torchvision:ResNet50_Weights.IMAGENET1K_V2"
    assert find_card("resnet50", "a1_in1k").license == "Apache-2.0"
    assert not any(card.license.islower() for card in list_cards())
    with pytest.raises(UsageError, match="no weights `b9_in1k`") as failure:
        find_card("resnet50.b9_in1k")
    assert "a1_in1k" in failure.value.hint


def test_ambiguous_name_of_two_libraries_lists_both():
    with pytest.raises(UsageError, match="more than one library") as failure:
        find_card("vgg11")
    assert "`timm:vgg11` or `tv:vgg11`" in failure.value.hint
    assert find_card("tv:VGG11").library == "torchvision"
    assert find_card("timm:vgg-11").library == "timm"
    assert find_card("torchvision:vgg11").name == "tv:vgg11"


def test_unique_library_name_needs_no_prefix():
    assert find_card("resnet50d").name == "timm:resnet50d"
    assert find_card("regnet_y_400mf").name == "tv:regnet_y_400mf"


@pytest.mark.parametrize(
    ("wrong", "nearest"), [("rsnet50", "resnet50"), ("vgg-17", "vgg16"), ("efficientnet_lite9", "efficientnet_lite0")]
)
def test_unknown_name_lists_nearest_three(wrong, nearest):
    with pytest.raises(UsageError, match="unknown network") as failure:
        find_card(wrong)
    named = failure.value.hint.split(";")[0].removeprefix("nearest: ").split(", ")
    assert len(named) == 3
    assert nearest in named
    for name in named:
        find_card(name)


@pytest.mark.parametrize("name", ["timm:vit_base_patch16_224", "tv:swin_t", "keras:vgg16", "tv:nothing"])
def test_non_convolutional_network_raises(name):
    with pytest.raises(UsageError):
        find_card(name)


def test_exact_library_name_matches():
    for key in library_table():
        assert find_card(key).name == key


def test_networks_with_equal_normalized_names_are_distinguished():
    assert find_card("tv:regnet_x_16gf").name == "tv:regnet_x_16gf"
    assert find_card("regnet_x_1_6gf").name == "tv:regnet_x_1_6gf"
    with pytest.raises(UsageError, match="ambiguous") as failure:
        find_card("RegNetX16GF")
    assert "`tv:regnet_x_16gf` or `tv:regnet_x_1_6gf`" in failure.value.hint


def test_each_listed_network_has_one_default_with_reason():
    for card in list_cards():
        assert card.weights_reason
        assert card.year
        assert card.paper
        assert card.stages, card.no_stages
        for text in (card.advantages, card.drawbacks):
            assert text.count(".") >= 1
            assert text.endswith(".")
        if card.has_weights:
            assert card.license
            assert card.weights_tag
        else:
            assert card.name == "zfnet"
        if card.top1 is not None:
            assert card.figures_source


def test_unsupported_size_states_smallest_size():
    assert find_card("alexnet").image_spec(96).size_hw == (96, 96)
    with pytest.raises(UsageError, match="at least 64 x 64"):
        find_card("alexnet").image_spec(32)
    assert find_card("efficientnet_lite2").image_spec().size_hw == (260, 260)


def test_lite_preprocessing_matches_training():
    spec = find_card("efficientnet_lite0").image_spec()
    assert (spec.size_hw, spec.crop_fraction, spec.interpolation) == ((224, 224), 0.875, "bicubic")
    assert spec.mean == spec.std == (0.5, 0.5, 0.5)


def test_listing_and_describing_import_no_torch():
    code = (
        "import sys\n"
        "from headstart.cli.main import app\n"
        "for command in (['models'], ['models', 'show', 'vgg16'], ['models', '--history'],\n"
        "                ['models', 'compare', 'VGG16', 'ResNet50', '--to', 'md']):\n"
        "    app(command, standalone_mode=False)\n"
        "print(sorted(m for m in ('torch', 'timm', 'torchvision', 'matplotlib') if m in sys.modules))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip().endswith("[]")
    assert "138,357,544" in done.stdout
