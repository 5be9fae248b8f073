"""Describe the network of a run as a table of stages: state, parameters and features, from the bundle."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from headstart.messages.sections import head_origin_message
from headstart.reports.record import ClassifierRecord

__all__ = ["describe_network"]


def describe_network(record: ClassifierRecord) -> dict[str, Any]:
    """Return the `model` section of `report.json`."""
    bundle, tensors, metrics = record.bundle, record.tensors, record.metrics
    card, head = dict(bundle.get("backbone") or {}), dict(bundle.get("head") or {})
    plan = dict((metrics.get("finetune") or {}).get("plan") or {})
    has_body = any(n.startswith(("backbone.body.", "backbone.pooled.")) for n in tensors)
    own = {n: shape for n, shape in tensors.items() if has_body and n.startswith("backbone.head.")}  # a custom head
    parts = _count_parts({n: s for n, s in tensors.items() if n.startswith("backbone.") and n not in own})
    rates = _rates(tuple(p for p in parts if p != "head"), plan)
    used = dict(zip(head.get("names", ()), head.get("sizes", ()), strict=False))
    rows: list[dict[str, Any]] = [
        {
            "name": name,
            "num_params": count,
            "num_tensors": num_tensors,
            "state": "trained" if name in rates else "frozen",
            "rate": rates.get(name),
            "features": used.get(name) or (used.get("embedding") if name == "neck" else None),
        }
        for name, (count, num_tensors) in parts.items()
        if name != "head"
    ]
    head_params = sum(math.prod(s) for n, s in tensors.items() if n in own or n in ("head.weight", "head.bias"))
    chosen = (record.settings.get("probe.mixture") or {}).get("value")
    mixture = chosen if isinstance(chosen, Mapping) and not plan else None
    latency = dict(bundle.get("latency") or {})
    return {
        "title": card.get("title") or metrics.get("backbone"),
        "backbone": metrics.get("backbone"),
        "strategy": metrics.get("strategy"),
        "weights_tag": card.get("weights_tag"),
        "weights_license": bundle.get("weights_license") or card.get("license"),
        "weights_source": card.get("source"),
        "weights_digest": card.get("digest"),
        "size_hw": (bundle.get("pixels") or {}).get("size_hw"),
        "resize_mode": (bundle.get("pixels") or {}).get("resize_mode"),
        "parts": rows,
        "head": {
            "num_params": head_params,
            "num_moments": sum(math.prod(s) for n, s in tensors.items() if n in ("head.mean", "head.scale")),
            "inputs": [{"name": n, "features": s} for n, s in used.items()],
            "num_features": sum(used.values()) or max((s[1] for s in own.values() if len(s) == 2), default=0),
            "spec": plan.get("head") or None,
            "num_classes": len(record.class_names),
            "mixture": mixture,
            "made": head_origin_message(plan, mixture),
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


def _count_parts(tensors: Mapping[str, tuple[int, ...]]) -> dict[str, tuple[int, int]]:
    """Return (parameters, tensors) of each part of the backbone, by depth."""
    counts: dict[str, tuple[int, int]] = {}
    for name, shape in tensors.items():
        part = _part_of(re.sub(r"^backbone\.(body\.|pooled\.)?", "", name))
        params, num_tensors = counts.get(part, (0, 0))
        counts[part] = params + math.prod(shape), num_tensors + 1
    stages = sorted((p for p in counts if re.fullmatch(r"stage\d+", p)), key=lambda p: int(p[5:]))
    others = sorted(counts.keys() - {"stem", "neck", *stages})
    return {part: counts[part] for part in ("stem", *stages, *others, "neck") if part in counts}


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
