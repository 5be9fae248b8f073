"""Render the reasons of decisions about data and default settings."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from headstart.messages.numbers import percent, pluralize, pluralize_is
from headstart.messages.values import quote
from headstart.types.codes import DecisionReason

__all__ = ["DATA_REASONS", "grouping_message"]


def grouping_message(e: Mapping[str, Any]) -> str:
    """Return the origin of groups, e.g. ``column `patient` ``; see `GroupCandidate.grouping`."""
    inside = " inside each class folder" if e.get("in_class_folders") else ""
    return _GROUPINGS[e["grouped_by"]](e) + inside


def _capture_time(e: Mapping[str, Any]) -> str:
    return f"images of one camera at most {e['seconds']:g} seconds apart (EXIF)" if "seconds" in e else "capture time"


def _column(e: Mapping[str, Any]) -> str:
    alone = f" ({pluralize(e['num_alone'], 'image')} without a value)" if e.get("num_alone") else ""
    return f"column {quote(e['name'])}{alone}"


_GROUPINGS: Mapping[str, Callable[[Mapping[str, Any]], str]] = {
    "capture_time": _capture_time,
    "column": _column,
    "expression": lambda e: f"expression {quote(e['name'])}",
    "folder": lambda e: "folder of each image",
    "layout": lambda e: f"groups of the {e['name'] or 'data'}",
    "name_part": lambda e: f"part {e['position']} of the file name ({quote(e['value'])} in {quote(e['example'])})",
    "name_parts": lambda e: f"parts {' and '.join(map(quote, e['values']))} of the file name {quote(e['example'])}",
    "template": lambda e: f"pattern {quote(e['name'])}",
}


def _requested_groups(e: Mapping[str, Any]) -> str:
    alone = e["num_without_group"]
    rest = f"; {pluralize(alone, 'image')} without a group" if alone else ""
    return f"{pluralize(e['num_groups'], 'group')} from the {grouping_message(e)}{rest}"


def _groups_in_question(e: Mapping[str, Any]) -> str:
    questions = ", ".join(f"{quote(q['pattern'])} ({q['status']})" for q in e["questions"])
    return f"{pluralize_is(len(e['questions']), 'inferred grouping')} not applied: {questions}"


def _groups_supported(e: Mapping[str, Any]) -> str:
    scores = ""
    if e["accuracy_independent"] is not None and e["accuracy_grouped"] is not None:
        scores = (
            f"; accuracy {percent(e['accuracy_independent'], 0)} with leave-one-out, "
            f"{percent(e['accuracy_grouped'], 0)} with leave-one-group-out"
        )
    is_named = e["grouping"].get("evidence") == "column_name"
    why = "whose name states a unit" if is_named else f"supported by image similarity (p = {e['p_value']:.3g})"
    return f"{pluralize(e['num_groups'], 'group')} by {grouping_message(e['grouping'])}, {why}{scores}"


def _duplicates_kept_together(e: Mapping[str, Any]) -> str:
    rest = e["num_pairs"] - e["num_joined"]
    uncertain = f"; {pluralize(rest, 'uncertain pair')} not used to join groups" if rest else ""
    return f"{pluralize(e['num_joined'], 'pair')} of duplicates kept together{uncertain}"


def _range_source(e: Mapping[str, Any]) -> str:
    images = pluralize(e["num_images"], "training image" if e["is_from_training"] else "scored image")
    return images + (", held-out ones included" if e.get("includes_held_out") else "")


def _threads_measured(e: Mapping[str, Any]) -> str:
    if e["speedup"] is None:
        return "one core"
    return f"{e['num_threads']} threads are {e['speedup']:.2f} times as fast as one"


DATA_REASONS: Mapping[DecisionReason, Callable[[Mapping[str, Any]], str]] = {
    DecisionReason.REQUESTED_VALUE_ADAPTED: lambda e: f"adapted from the given {e['requested']}",
    DecisionReason.BOXES_FOUND: lambda e: f"the data have boxes ({e['layout']})",
    DecisionReason.CONFLICTING_LABELS: lambda e: (
        f"{pluralize(e['num_images'], 'training image')} with duplicates under another label"
    ),
    DecisionReason.DUPLICATES_KEPT_TOGETHER: _duplicates_kept_together,
    DecisionReason.DUPLICATE_THRESHOLD_FROM_DATA: lambda e: (
        f"{pluralize(e['num_pairs'], 'pair')} agree in at least {percent(e['min_agreement'])}, distinct images do not"
    ),
    DecisionReason.BOX_FORMAT_OF_FILES: lambda e: "format of the boxes in the annotation files",
    DecisionReason.OFF_BY_DEFAULT: lambda e: "off unless it is set",
    DecisionReason.DEFAULT_FOR_NUM_TRAIN: lambda e: f"default for {pluralize(e['num_train'], 'training image')}",
    DecisionReason.DEFAULT_INPUT_SIZE: lambda e: "default input size of the weights",
    DecisionReason.DEFAULT_WEIGHTS: lambda e: "default weights of the backbone",
    DecisionReason.DEVICE_OF_TRAINING: lambda e: "device of the training",
    DecisionReason.FEATURES_ON_CPU: lambda e: "features are computed on the CPU",
    DecisionReason.GROUPS_REQUESTED: _requested_groups,
    DecisionReason.GROUPS_GIVEN_BY_DATA: lambda e: (
        f"{pluralize(e['num_groups'], 'group')} given by the {e['layout'] or 'data'}"
    ),
    DecisionReason.GROUPS_IN_QUESTION: _groups_in_question,
    DecisionReason.GROUPS_NAMED_BY_COLUMN: _groups_supported,
    DecisionReason.GROUPS_PER_IMAGE: lambda e: "every image is its own group, including duplicates",
    DecisionReason.GROUPS_SUPPORTED_BY_IMAGES: _groups_supported,
    DecisionReason.GROUPS_SWITCHED_OFF: lambda e: "groups are disabled",
    DecisionReason.HELD_OUT_BY_DEFAULT: lambda e: "default fraction, as the data have no split",
    DecisionReason.LAYOUT_RECOGNIZED: lambda e: "detected from the files",
    DecisionReason.NAMES_NUMBERED: lambda e: f"numbers of the class names in {quote(e['file'])}",
    DecisionReason.NEXT_FREE_FOLDER: lambda e: "next free run folder",
    DecisionReason.NO_BOXES: lambda e: "the data have no boxes",
    DecisionReason.NO_EFFECT: lambda e: f"no effect with task {e['task']} and strategy {e['strategy']}",
    DecisionReason.NO_GROUPS_FOUND: lambda e: "no groups found in the data",
    DecisionReason.ONE_THREAD_PER_CORE: lambda e: "one thread per core",
    DecisionReason.SET_BY_USER: lambda e: "set by the user",
    DecisionReason.THREADS_MEASURED: _threads_measured,
    DecisionReason.VALUE_RANGE_CONSTANT: lambda e: f"a single value, {e['smallest_value']:g}, in {_range_source(e)}",
    DecisionReason.VALUE_RANGE_OF_BITS: lambda e: (
        f"bit depth in use, largest value {e['largest_value']:g} in {_range_source(e)}"
    ),
    DecisionReason.VALUE_RANGE_OF_FLOATS: lambda e: (
        f"values {e['smallest_value']:g} to {e['largest_value']:g} in {_range_source(e)}"
    ),
    DecisionReason.VALUE_RANGE_OF_PERCENTILES: lambda e: (
        f"percentiles 0.1 to 99.9 of {e['smallest_value']:g} to {e['largest_value']:g} in {_range_source(e)}"
    ),
}
