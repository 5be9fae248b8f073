"""Create the model card: `README.md` of the bundle, with metadata for model hubs, from the report data.

The card contains measured values and the findings of the comment. It has no file names and no images, since bundles
are shared.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from headstart.messages.numbers import percent, pluralize
from headstart.messages.protocols import protocol_name
from headstart.messages.values import interval
from headstart.types.codes import EvaluationSetup

__all__ = ["model_card"]

_LICENSES = {"Apache-2.0": "apache-2.0", "MIT": "mit", "BSD-3-Clause": "bsd-3-clause", "CC-BY-4.0": "cc-by-4.0",
             "CC-BY-NC-4.0": "cc-by-nc-4.0", "CC-BY-SA-4.0": "cc-by-sa-4.0"}  # fmt: skip
_MOST = 60  # listed classes


def model_card(report: Mapping[str, Any]) -> str:
    """Return the card as Markdown with a YAML header.

    Args:
        report: From `summarize`.
    """
    model, score, names = report["model"], dict(report["headline"].get("score") or {}), report["class_names"]
    binary = report["headline"].get("binary")
    classes = ", ".join(f"`{_code(n)}`" for n in names[:_MOST])
    more = f" and {len(names) - _MOST} more" if len(names) > _MOST else ""
    weights, license = model["weights_tag"] or "unnamed weights", model["weights_license"]
    rows = []
    for c in report["per_class"][:200]:
        shares = " | ".join(_fraction(c[m]) for m in ("precision", "recall", "f1"))
        rows.append(f"| {_text(c['name'])} | {c['support']} | {shares} |")
    sections = {
        f"# Image classifier of {pluralize(len(names), 'class', 'classes')}": [
            report["headline"]["sentence"],
            report["headline"]["protocol"],
        ],
        "## Model": [
            f"{_text(model['title'])} ({_text(weights)}) with a head trained on the images described below; "
            f"strategy: {_text(model['strategy'])}; {model['num_params']:,} parameters, {model['num_trained']:,} of "
            "them trained in this run. ONNX Runtime runs `model.onnx`; `bundle.json` defines the preprocessing.",
            f"Classes: {classes}{more}.",
        ],
        "## Usage": ["    headstart predict THIS_FOLDER NEW_IMAGES/"],
        "## Intended use": [
            "Images of the same origin as the training images, each showing one of the classes above. Review important "
            "predictions manually; the report of the training run lists probability thresholds."
        ],
        "## Data": [_data(report)],
        "## Score": [
            _score(score),
            *([f"{_text(binary['message'])}."] if binary else []),
            "\n".join(["| class | scored images | precision | recall | F1 |", "|---|---|---|---|---|", *rows]),
        ],
        "## Out-of-distribution images and prediction sets": [
            _text(" ".join(str(report["ood"].get(k) or "") for k in ("text", "noticed", "missing")).strip()),
            _text(str(report["coverage"].get("text") or report["coverage"].get("missing") or "")),
        ],
        "## Limitations": [
            "\n".join(
                [
                    *(f"- {_text(r['title'])}. {_text(r['text'])}" for r in report["comment"]["findings"]),
                    *(f"- {_text(f['text'])}" for f in report["comment"]["not_to_conclude"]),
                ]
            )
        ],
        "## License": [
            f"Pretrained weights: {_text(license or 'not stated by their source')} "
            f"({_text(model['weights_source'] or 'source not stated')}). The license of the training images is up to "
            "their owner."
        ],
    }
    body = "\n\n".join("\n\n".join([heading, *texts]) for heading, texts in sections.items())
    return _metadata(report) + body + "\n"


def _metadata(report: Mapping[str, Any]) -> str:
    """Return the YAML header; texts are quoted as JSON, which is valid YAML."""
    score, model = dict(report["headline"].get("score") or {}), report["model"]
    license = model["weights_license"]
    lines = [
        "---",
        f"license: {_LICENSES.get(str(license), 'other')}",
        *([f"license_name: {json.dumps(license or 'not stated')}"] if str(license) not in _LICENSES else []),
        "library_name: headstart",
        "pipeline_tag: image-classification",
        'tags: ["image-classification", "onnx", "transfer-learning", "headstart"]',
    ]
    if score.get("value") is not None:
        lines += [
            "model-index:",
            f"- name: {json.dumps(report['run'])}",
            "  results:",
            "  - task: {type: image-classification}",
            f'    dataset: {{name: "own images", type: private, split: {json.dumps(score.get("protocol"))}}}',
            "    metrics:",
            f"    - {{type: {score.get('metric', 'accuracy')}, value: {score['value']:.4f}}}",
        ]
    return "\n".join([*lines, "---", ""])


def _data(report: Mapping[str, Any]) -> str:
    counts = report["data"]["counts"]
    parts = [f"{sum(v):,} {split} (smallest class {min(v):,}, largest {max(v):,})" for split, v in counts.items()]
    text = f"{pluralize(report['data']['num_samples'], 'image')}: {'; '.join(parts)}."
    if report["data"]["num_groups"]:
        text += f" Groups stay in one split: {pluralize(report['data']['num_groups'], 'group')}."
    if report["data"]["unreadable"]:
        text += f" Skipped as unreadable: {pluralize(len(report['data']['unreadable']), 'file')}."
    return text


def _score(score: Mapping[str, Any]) -> str:
    if score.get("value") is None:
        return "Not measured."
    name = str(score.get("metric", "accuracy")).replace("_", " ")
    span = "" if score.get("low") is None else f" ({interval(score['low'], score['high'], 1)})"
    return (
        f"{name.capitalize()} {percent(score['value'])}{span} on {pluralize(score.get('num_samples', 0), 'image')}; "
        f"protocol: {protocol_name(EvaluationSetup.from_json(score))}."
    )


def _fraction(estimate: Mapping[str, Any]) -> str:
    if estimate.get("value") is None:
        return "not measurable"
    text = percent(estimate["value"], 0)
    return (
        text if estimate.get("low") is None else text + f" ({100 * estimate['low']:.0f}–{100 * estimate['high']:.0f})"
    )


def _text(value: Any) -> str:
    """Escape Markdown and HTML."""
    plain = " ".join(str(value).split()).replace("&", "&amp;").replace("<", "&lt;")
    return "".join("\\" + c if c in "|*_[]\\" else c for c in plain)


def _code(value: str) -> str:
    return " ".join(value.split()).replace("`", "'")
