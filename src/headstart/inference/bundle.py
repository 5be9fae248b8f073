"""Read and verify bundles: folders or zips that contain a deployable model and no code.

Prediction needs `bundle.json` and `model.onnx`; `model.safetensors` is for further training. `bundle.json` lists the
digest of every file.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from headstart.errors import BundleError
from headstart.evaluation.decision_rules import OodRule, PredictionSetRule
from headstart.inference.bundle_members import (
    INFO,
    MODEL,
    SCHEMA,
    TRAINED_ON,
    WEIGHTS,
    BundleMembers,
    check_size,
    damaged,
    open_members,
    read_checked,
    read_member,
)
from headstart.inference.onnx_check import check_model
from headstart.preprocessing.image_spec import ImageSpec
from headstart.utils.limits import MAX_BUNDLE_DETECTIONS

if TYPE_CHECKING:
    from headstart.detection.decoding import DecodingSettings

__all__ = ["Bundle", "read_bundle", "read_decoding"]

_REQUIRED = {"task", "class_names", "pixels", "temperature", "files"}
_MAX_SIDE = 8192  # pixels; larger input sizes would exhaust the memory


@dataclass(frozen=True)
class Bundle:
    """A verified bundle.

    Attributes:
        path: Path the bundle was read from.
        class_names: Class names in the order of the logits, spelled as in the training data; empty without classes.
        spec: Image spec: preprocessing from file to tensor.
        temperature: Calibration temperature; `model.onnx` already applies it.
        thresholds: Operating points by name; may be empty.
        ood: OOD detection rule, or None.
        prediction_sets: Thresholds of prediction sets, or None.
        info: Contents of `bundle.json`.
        model: Bytes of `model.onnx`.
    """

    path: str
    class_names: tuple[str, ...]
    spec: ImageSpec
    temperature: float
    thresholds: dict[str, Any]
    ood: OodRule | None
    prediction_sets: PredictionSetRule | None
    info: dict[str, Any] = field(repr=False)
    model: bytes = field(repr=False)

    @property
    def task(self) -> str:
        return str(self.info["task"])

    @property
    def has_boxes(self) -> bool:
        """Whether the model detects objects."""
        return "decoding" in self.info

    @property
    def positive(self) -> str | None:
        """The positive class of a binary classifier; None if not set."""
        name = self.info.get("positive")
        return name if len(self.class_names) == 2 and name in self.class_names else None

    @property
    def decoding(self) -> DecodingSettings:
        """Decoding settings of a detector.

        Raises:
            ValueError: They are invalid; `read_bundle` checks them.
        """
        return read_decoding(self.info.get("decoding"))

    @property
    def class_thresholds(self) -> NDArray[np.float32]:
        """(K,) minimum score of reported objects of each class of a detector; 0.5 if the bundle has none."""
        known: Mapping[str, Any] = self.thresholds.get("per_class") or {}
        return np.array([float(known.get(name, 0.5)) for name in self.class_names], dtype=np.float32)

    def weights(self) -> dict[str, Any]:
        """Verify and load `model.safetensors`; return numpy arrays by name.

        Raises:
            BundleError: The file is missing or damaged.
            MissingExtraError: The extra `train` is not installed.
        """
        from headstart.errors import MissingExtraError

        try:
            from safetensors import SafetensorError
            from safetensors.numpy import load
        except ImportError as error:
            raise MissingExtraError("reading the weights of a bundle", "train") from error
        data = self._read(WEIGHTS)
        try:
            return dict(load(data))
        except SafetensorError as error:
            raise damaged(self.path, f"cannot read `{WEIGHTS}` ({error})") from error

    def trained_on(self) -> frozenset[str]:
        """Return the first 16 hex digits of the SHA-256 of each training image; empty if not stored.

        Raises:
            BundleError: The file is missing or damaged.
        """
        if TRAINED_ON not in self.info["files"]:
            return frozenset()
        return frozenset(self._read(TRAINED_ON).decode("ascii", "replace").split())

    def _read(self, name: str) -> bytes:
        return read_checked(open_members(self.path), name, self.info["files"])


def read_bundle(path: str | os.PathLike[str]) -> Bundle:
    """Read and verify the bundle in a run folder, a bundle folder or a zip of either.

    Checks the sizes of all files and the digest of the model; the digests of the other files are checked when they are
    used. Nothing is written to disk, and no code from the bundle runs.

    Raises:
        UsageError: The path does not exist.
        BundleError: The path is not a bundle, or the bundle is damaged, has another schema or an unsafe model.
    """
    members = open_members(os.fspath(path))
    info = _read_info(members)
    for name in (WEIGHTS, TRAINED_ON):
        if name in info["files"]:
            check_size(members, name, info["files"])
    try:
        spec = _read_spec(info["pixels"])
        names = _read_names(info["class_names"])
        temperature = float(info["temperature"])
        thresholds = dict(info.get("thresholds") or {})
        if "decoding" in info:
            read_decoding(info.get("decoding"))
            _check_class_thresholds(thresholds)
        ood = None if info.get("ood") is None else OodRule.from_json(info["ood"])
        prediction_sets = (
            None
            if info.get("prediction_sets") is None
            else PredictionSetRule.from_json(info["prediction_sets"], len(names))
        )
    except (ValueError, TypeError, OverflowError, KeyError, AttributeError) as error:
        raise damaged(members.path, f"`{INFO}` is invalid: {error}") from error
    model = read_checked(members, MODEL, info["files"])
    check_model(model, f"{members.path}/{MODEL}")
    return Bundle(members.path, names, spec, temperature, thresholds, ood, prediction_sets, info, model)


def _read_info(members: BundleMembers) -> dict[str, Any]:
    path = members.path
    try:
        info = json.loads(read_member(members, INFO).decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise damaged(path, f"`{INFO}` is not valid JSON ({error})") from error
    if not isinstance(info, dict) or type(info.get("schema")) is not int:
        raise damaged(path, f"`{INFO}` has no schema number")
    if info["schema"] < SCHEMA:
        raise BundleError(
            f"`{path}` has the old bundle schema {info['schema']}; schema {SCHEMA} is required.",
            hint="train the model again",
        )
    if info["schema"] > SCHEMA:
        raise BundleError(
            f"`{path}` was written by a newer headstart (schema {info['schema']}; this version reads {SCHEMA}).",
            hint="pip install --upgrade headstart",
        )
    missing = _REQUIRED - set(info)
    if missing:
        raise damaged(path, f"`{INFO}` lacks {', '.join(sorted(missing))}")
    if not isinstance(info["task"], str):
        raise damaged(path, f"`{INFO}` has no name of a task")
    if not isinstance(info["files"], dict) or MODEL not in info["files"]:
        raise damaged(path, f"`{INFO}` does not list `{MODEL}`")
    return info


def _read_spec(value: Any) -> ImageSpec:
    """Return the validated image spec of an untrusted bundle."""
    if not isinstance(value, dict):
        raise TypeError("`pixels` must be an object")
    spec = ImageSpec.from_json(value)
    triples = (spec.mean, spec.std, spec.background)
    numbers = [*spec.mean, *spec.std, *spec.background, *spec.size_hw, *(spec.intensity_range or ()), spec.max_pixels]
    is_number = all(type(x) in (int, float) and math.isfinite(x) for x in numbers)
    is_size = len(spec.size_hw) == 2 and all(type(x) is int and 1 <= x <= _MAX_SIDE for x in spec.size_hw)
    is_range = spec.intensity_range is None or (
        len(spec.intensity_range) == 2 and spec.intensity_range[0] < spec.intensity_range[1]
    )
    is_color = all(type(x) is int and 0 <= x <= 255 for x in spec.background)
    if not (is_number and is_size and is_range and is_color and all(len(t) == 3 for t in triples)):
        raise ValueError("a value of `pixels` is out of range")
    return spec


def read_decoding(value: Any) -> DecodingSettings:
    """Return the validated decoding settings of an untrusted bundle.

    Raises:
        ValueError: A key or value is invalid.
    """
    from headstart.detection.decoding import DecodingSettings

    if not isinstance(value, dict) or set(value) != set(DecodingSettings.__dataclass_fields__):
        raise ValueError("unexpected keys in `decoding`")
    numbers = [v for name, v in value.items() if name != "is_class_agnostic"]
    if not all(type(v) in (int, float) and math.isfinite(v) for v in numbers):
        raise ValueError("a value of `decoding` is not a finite number")
    if type(value["is_class_agnostic"]) is not bool:
        raise ValueError("`is_class_agnostic` of `decoding` is not true or false")
    decoding = replace(
        DecodingSettings(**value), num_candidates=int(value["num_candidates"]), num_kept=int(value["num_kept"])
    )
    is_valid = 0 < decoding.min_score < 1 and 0 < decoding.nms_iou <= 1 and decoding.slope > 0
    if not is_valid or not 1 <= decoding.num_kept <= MAX_BUNDLE_DETECTIONS or decoding.num_candidates < 1:
        raise ValueError("a value of `decoding` is out of range")
    return decoding


def _check_class_thresholds(thresholds: Mapping[str, Any]) -> None:
    for name, limit in (thresholds.get("per_class") or {}).items():
        if type(limit) not in (int, float) or not 0.0 <= limit <= 1.0:
            raise ValueError(f"the threshold of `{name}` is not between 0 and 1")


def _read_names(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        raise ValueError("`class_names` must be a list of strings")
    if len(set(value)) != len(value):
        raise ValueError("a class name is duplicated in `class_names`")
    return tuple(value)
