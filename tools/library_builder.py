"""Build `backbones/tables/library.json` from timm and torchvision: card data that needs no torch at run time.

Properties of networks (parameters, multiply-adds, stages, licenses, preprocessing, weight sources) are read from the
installed libraries, not typed in. `python tools/library_builder.py FIGURES.csv` rebuilds the table;
networks are built without memory for their weights, so this takes minutes and little memory.
"""

from __future__ import annotations

import csv
import json
import re
import sys
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import headstart

__all__ = ["CNN_FAMILIES", "build_library_table", "timm_names", "torchvision_names"]

CNN_FAMILIES = frozenset(
    {
        "byobnet",
        "convmixer",
        "convnext",
        "cspnet",
        "cspnext",
        "densenet",
        "dla",
        "dpn",
        "efficientnet",
        "fasternet",
        "ghostnet",
        "hardcorenas",
        "hgnet",
        "hrnet",
        "inception_next",
        "inception_resnet_v2",
        "inception_v3",
        "inception_v4",
        "lcnetv2",
        "mambaout",
        "metaformer",
        "mobilenetv3",
        "nasnet",
        "nfnet",
        "pnasnet",
        "rdnet",
        "regnet",
        "repghost",
        "repvit",
        "res2net",
        "resnest",
        "resnet",
        "resnetv2",
        "rexnet",
        "selecsls",
        "senet",
        "sknet",
        "starnet",
        "tresnet",
        "vgg",
        "vovnet",
        "xception",
        "xception_aligned",
    }
)
"""timm's modules of convolutional networks; its other modules hold transformers, mixers and hybrids."""

_TABLES = Path(headstart.__file__).parent / "backbones" / "tables"
_SIZES = (8, 16, 24, 32, 40, 48, 56, 64, 72, 80, 96, 112, 128, 160, 192, 224)


def timm_names() -> list[str]:
    """Return every convolutional architecture of the installed timm."""
    import timm
    from timm.models import _registry

    family_of = _registry._model_to_module
    return [n for n in timm.list_models() if family_of[n] in CNN_FAMILIES and not n.startswith("caformer")]


def torchvision_names() -> list[str]:
    """Return every convolutional classifier of the installed torchvision."""
    from torchvision import models

    return [n for n in models.list_models(module=models) if not re.match(r"vit|swin|maxvit", n)]


def build_library_table(figures: Path, target: Path, first: Sequence[str] = ()) -> None:
    """Write the whole table; an interrupted run can be resumed.

    Args:
        figures: timm's published results as CSV (`model,img_size,top1,...,top5,...`).
        target: The JSON file; partial results are stored next to it until the table is complete.
        first: Keys to process first.
    """
    import timm
    import torch
    import torchvision

    results: dict[tuple[str, int], tuple[float, float]] = {}
    with figures.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            results[row["model"], int(row["img_size"])] = (float(row["top1"]), float(row["top5"]))
    keys = [*(f"timm:{n}" for n in timm_names()), *(f"tv:{n}" for n in torchvision_names()), "headstart:zfnet"]
    partial = target.with_name(target.name + ".part")
    done: dict[str, Any] = {}
    if partial.exists():
        done = dict(json.loads(line) for line in partial.read_text("utf-8").splitlines())
    with partial.open("a", encoding="utf-8") as file:
        for key in [*first, *(k for k in keys if k not in first)]:
            if key in done:
                continue
            done[key] = _network_entry(key, results)
            file.write(json.dumps([key, done[key]], separators=(",", ":")) + "\n")
            file.flush()
            print(key, done[key].get("error", ""), file=sys.stderr, flush=True)
    made_with = {"timm": timm.__version__, "torchvision": torchvision.__version__, "torch": torch.__version__}
    lines = ",\n".join(f"{json.dumps(k)}: {json.dumps(done[k], separators=(',', ':'))}" for k in keys)
    target.write_text(f'{{"made_with": {json.dumps(made_with)},\n"networks": {{\n{lines}\n}}}}\n', encoding="utf-8")
    partial.unlink()


def _network_entry(key: str, results: dict[tuple[str, int], tuple[float, float]]) -> dict[str, Any]:
    library, _, name = key.partition(":")
    if library == "timm":
        return _timm_entry(name, results)
    if library == "tv":
        return _torchvision_entry(name)
    return _entry("headstart", name, name, (224, 224))


def _timm_entry(name: str, results: dict[tuple[str, int], tuple[float, float]]) -> dict[str, Any]:
    from timm.models import _registry

    configs = _registry._model_default_cfgs[name]
    listed = _listed_tags().get(f"timm:{name}", "")
    default = configs.cfgs.get(listed, configs.default)
    entry = _entry("timm", name, _registry._model_to_module[name], tuple(default.input_size[1:]))
    entry["fixed"] = bool(default.fixed_input_size)
    tags = {}
    for tag, config in configs.cfgs.items():
        if not config.has_weights:
            continue
        full = f"{name}.{tag}" if tag else name
        size = config.input_size[1]
        row: dict[str, Any] = {
            "source": _timm_source(full, config),
            "license": config.license or "",
            "pixels": _timm_pixels(config),
            "classes": config.num_classes,
        }
        if (full, size) in results:
            row["top1"], row["top5"] = results[full, size]
        tags[tag] = row
    entry["tags"] = tags
    entry["default"] = next((t for t in configs.tags if t in tags), "")
    return entry


@lru_cache(maxsize=1)
def _listed_tags() -> dict[str, str]:
    """Return the weights tag of each listed network, whose size is used for its stages."""
    table = json.loads((_TABLES / "named.json").read_text("utf-8"))
    return {f"{row['library']}:{row['arch']}": row["tag"] for row in table["cards"]}


def _timm_source(full: str, config: Any) -> str:
    if config.hf_hub_id:
        repo = config.hf_hub_id + full if config.hf_hub_id.endswith("/") else config.hf_hub_id
        return f"hub:{repo}" + (f"#{config.hf_hub_filename}" if config.hf_hub_filename else "")
    return "url:timm"


def _timm_pixels(config: Any) -> dict[str, Any]:
    squash = config.crop_mode == "squash"
    return {
        "size_hw": list(config.input_size[1:]),
        "resize_mode": "squash" if squash else "crop",
        "crop_fraction": 1.0 if squash else float(config.crop_pct),
        "interpolation": config.interpolation if config.interpolation != "random" else "bicubic",
        "mean": [round(float(v), 6) for v in config.mean],
        "std": [round(float(v), 6) for v in config.std],
    }


def _torchvision_entry(name: str) -> dict[str, Any]:
    from torchvision import models

    weights = models.get_model_weights(name)
    size = weights.DEFAULT.transforms().crop_size[0]
    entry = _entry("torchvision", name, models.get_model_builder(name).__module__.rsplit(".", 1)[-1], (size, size))
    tags = {}
    for member in weights:
        if not member.meta.get("categories"):  # VGG16's weights for detection have no classifier
            continue
        preset = member.transforms()
        crop, resize = preset.crop_size[0], preset.resize_size[0]
        figures = member.meta["_metrics"]["ImageNet-1K"]
        mean, std = list(preset.mean), list(preset.std)
        if name in ("googlenet", "inception_v3"):  # they convert from ImageNet's scale themselves
            mean, std = [0.5] * 3, [0.5] * 3
        digest = re.search(r"-([0-9a-f]{8,})\.", member.url)
        tags[member.name] = {
            "source": f"torchvision:{type(member).__name__}.{member.name}",
            "license": "CC-BY-NC-4.0" if "license" in member.meta else "BSD-3-Clause",
            "pixels": {
                "size_hw": [crop, crop],
                "crop_fraction": round(crop / resize, 6),
                "interpolation": preset.interpolation.value,
                "mean": mean,
                "std": std,
            },
            "classes": len(member.meta["categories"]),
            "digest": digest.group(1) if digest else "",
            "top1": figures["acc@1"],
            "top5": figures["acc@5"],
        }
    entry["tags"] = tags
    entry["default"] = weights.DEFAULT.name
    return entry


def _entry(library: str, name: str, family: str, size_hw: tuple[int, ...]) -> dict[str, Any]:
    """Return counts and stages of one architecture, or the reason why it has none."""
    from headstart.backbones.build import build_empty
    from headstart.backbones.rules import AUXILIARY, NoStagesError, map_stages
    from headstart.backbones.stages import StagedNetwork

    entry: dict[str, Any] = {"family": family, "tags": {}, "default": "", "size": size_hw[0]}
    network = build_empty(library, name)
    counts = {n: p.numel() for n, p in network.named_parameters()}
    entry["params"] = sum(c for n, c in counts.items() if not n.startswith(AUXILIARY))
    entry["aux"] = sum(c for n, c in counts.items() if n.startswith(AUXILIARY))
    try:
        staged = StagedNetwork(network, map_stages(network), (size_hw[0], size_hw[1]))
        table = staged.table
    except NoStagesError as error:
        entry["error"] = error.message
        return entry
    except Exception as error:  # one network that fails at its own default size must not end the run
        entry["error"] = f"it cannot be run at its own size ({type(error).__name__})"
        return entry
    entry["stages"] = [[s.name, s.num_params, s.num_macs, [list(o) for o in s.output_shapes]] for s in table]
    entry["min"] = next(_working_sizes(network, size_hw[0]))
    return entry


def _working_sizes(network: Any, own: int) -> Iterator[int]:
    """Return the sides that the network supports, smallest first."""
    from headstart.backbones.rules import map_stages
    from headstart.backbones.stages import StagedNetwork

    stages = map_stages(network)
    for size in sorted({*_SIZES, own}):
        try:
            shapes = [s for row in StagedNetwork(network, stages, (size, size)).table for s in row.output_shapes]
        except Exception:  # too small; layers report that in many ways
            continue
        if all(min(s) > 0 for s in shapes if s):
            yield size


if __name__ == "__main__":
    build_library_table(Path(sys.argv[1]), _TABLES / "library.json", sys.argv[2:])
