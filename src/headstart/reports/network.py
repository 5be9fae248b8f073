"""Describe the network of a run as a table of stages: state, parameters and features, from the bundle."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from headstart.messages.decisions_head import candidate_name
from headstart.reports.record import ClassifierRecord

__all__ = ["describe_network"]


def describe_network(record: ClassifierRecord) -> dict[str, Any]:
    """Return the `model` section of `report.json`."""
    bundle, card = record.bundle, dict(record.bundle.get("backbone") or {})
    pixels = dict(bundle.get("pixels") or {})
    parts = _parts(record.tensors)
    plan = dict((record.metrics.get("finetune") or {}).get("plan") or {})
    rates = _rates(tuple(p for p in parts if p != "head"), plan)
    head = dict(bundle.get("head") or {})
    used = dict(zip(head.get("names", ()), head.get("sizes", ()), strict=False))
    rows: list[dict[str, Any]] = [
        {
            "name": name,
            "num_params": count,
            "num_tensors": tensors,
            "state": "trained" if name in rates else "frozen",
            "rate": rates.get(name),
            "features": used.get(name) or (used.get("embedding") if name == "neck" else None),
        }
        for name, (count, tensors) in parts.items()
        if name != "head"
    ]
    head_params = _head_params(record.tensors)
    normalizer = sum(math.prod(s) for n, s in record.tensors.items() if n in ("head.mean", "head.scale"))
    chosen = (record.settings.get("probe.mixture") or {}).get("value")
    mixture = chosen if isinstance(chosen, Mapping) and not plan else None
    latency = dict(bundle.get("latency") or {})
    return {
        "title": card.get("title") or record.metrics.get("backbone"),
        "backbone": record.metrics.get("backbone"),
        "strategy": record.metrics.get("strategy"),
        "weights_tag": card.get("weights_tag"),
        "weights_license": bundle.get("weights_license") or card.get("license"),
        "weights_source": card.get("source"),
        "weights_digest": card.get("digest"),
        "size_hw": pixels.get("size_hw"),
        "resize_mode": pixels.get("resize_mode"),
        "parts": rows,
        "head": {
            "num_params": head_params,
            "num_moments": normalizer,
            "inputs": [{"name": n, "features": s} for n, s in used.items()],
            "num_features": sum(used.values()) or _own_inputs(record.tensors),
            "spec": plan.get("head") or None,
            "num_classes": len(record.class_names),
            "mixture": mixture,
            "made": _how_made(plan, mixture),
            "rate": plan.get("head_lr"),
            "temperature": bundle.get("temperature"),
        },
        "num_params": sum(r["num_params"] for r in rows) + head_params,
        "num_trained": head_params + sum(r["num_params"] for r in rows if r["state"] == "trained"),
        "size_bytes": ((bundle.get("files") or {}).get("model.onnx") or {}).get("size_bytes"),
        "latency_ms": latency.get("p50_ms"),
        "latency_threads": latency.get("num_threads"),
        "has_flip": bool(bundle.get("has_flip")),
    }


def _parts(tensors: Mapping[str, tuple[int, ...]]) -> dict[str, tuple[int, int]]:
    """Return (parameters, tensors) of each part of the backbone, by depth."""
    counts: dict[str, list[int]] = {}
    for name, shape in tensors.items():
        if not name.startswith("backbone.") or _is_own_head(name, tensors):
            continue
        part = counts.setdefault(_part_of(re.sub(r"^backbone\.(body\.|pooled\.)?", "", name)), [0, 0])
        part[0] += math.prod(shape)
        part[1] += 1
    return {name: (v[0], v[1]) for name, v in sorted(counts.items(), key=lambda item: _depth(item[0]))}


def _part_of(name: str) -> str:
    """Return the portable stage name of a timm tensor; its first name component if unknown."""
    stage = re.match(r"(?:blocks|layer|stages|layers|features)[._]?(\d+)", name)
    if stage:
        offset = 0 if name.startswith("layer") and not name.startswith("layers") else 1
        return f"stage{int(stage.group(1)) + offset}"
    if re.match(r"(conv_stem|stem|conv1\b|bn1\b|patch_embed)", name):
        return "stem"
    if re.match(r"(conv_head|bn2\b|neck|norm|head)", name):
        return "neck"
    return name.split(".")[0]


def _depth(part: str) -> tuple[int, int, str]:
    number = re.fullmatch(r"stage(\d+)", part)
    if number:
        return 1, int(number.group(1)), ""
    return {"stem": 0, "neck": 3}.get(part, 2), 0, part


def _rates(parts: tuple[str, ...], plan: Mapping[str, Any]) -> dict[str, float | None]:
    """Return the peak learning rate of each trained part, from the cut and the layer decay."""
    cut = plan.get("train_from")
    if cut not in parts:
        return {}
    trained = parts[parts.index(str(cut)) :]
    lr, decay = plan.get("lr"), plan.get("layer_decay", 1.0)
    if not isinstance(lr, (int, float)) or not isinstance(decay, (int, float)):
        return dict.fromkeys(trained)
    return {name: lr * decay**rank for rank, name in enumerate(reversed(trained))}  # the neck is one of them


def _how_made(plan: Mapping[str, Any], mixture: Mapping[str, float] | None) -> str | None:
    """Return the origin of the head's weights as a sentence."""
    if plan.get("refit_head"):
        return "The head is the mean of the trained head and a closed-form head refitted on the fine-tuned features."
    if plan:
        return "The head was trained by gradient descent."
    parts = [f"{candidate_name(name)} {100 * weight:.0f} %" for name, weight in (mixture or {}).items() if weight]
    return f"The head is an ensemble of {', '.join(parts)}, weighted on held-out predictions." if parts else None


def _is_own_head(name: str, tensors: Mapping[str, tuple[int, ...]]) -> bool:
    """Return whether a tensor belongs to a custom head, which is part of the graph."""
    return name.startswith("backbone.head.") and any(
        n.startswith(("backbone.body.", "backbone.pooled.")) for n in tensors
    )


def _head_params(tensors: Mapping[str, tuple[int, ...]]) -> int:
    return sum(
        math.prod(s) for n, s in tensors.items() if n in ("head.weight", "head.bias") or _is_own_head(n, tensors)
    )


def _own_inputs(tensors: Mapping[str, tuple[int, ...]]) -> int:
    """Return the input width of a head in the graph: that of its widest layer."""
    return max((s[1] for n, s in tensors.items() if len(s) == 2 and _is_own_head(n, tensors)), default=0)
