"""Group samples as the user requests: by layout, column, pattern or capture time.

Requested groups are used untested; proposed groups are tested (see `group_evaluation`).
"""

from __future__ import annotations

import re

import numpy as np
from numpy.typing import NDArray

from headstart.data.capture_groups import TIMES, keys_by_time
from headstart.data.layouts import Template
from headstart.data.unit_names import is_placeholder
from headstart.errors import UsageError
from headstart.types.codes import DecisionReason, Evidence
from headstart.types.records import Decision, Samples

__all__ = ["group_ids", "group_keys", "number_groups"]


def group_ids(samples: Samples, group_from: str | None) -> tuple[NDArray[np.int64] | None, Decision]:
    """Return the groups that the user requests.

    Args:
        samples: The images.
        group_from: None takes the groups of the layout or table; `none` switches groups off, `image` duplicates too;
            `folder` takes the folder of each image, `capture-burst` and `capture-session` images taken
            within 10 seconds or 10 minutes of each other; else a column of the table, a template with
            `{group}` for the file name, or a regular expression (its capture groups are the group) for the
            file name, or for the whole path if it contains a `/`. `dish+label` is a group for each pair of values
            of two columns; `label` is the class.

    Returns:
        (N,) group of each sample, numbered by first appearance, or None without groups; and the decision.
        A sample without a group gets a group of its own.

    Raises:
        UsageError: There is no such column, and no file name matches.
    """
    source = "auto" if group_from is None else "cli"
    if group_from is not None and group_from.lower() == "none":
        return None, Decision("group_from", "none", DecisionReason.GROUPS_SWITCHED_OFF, source)
    if group_from is not None and group_from.lower() == "image" and group_from not in samples.columns:
        return None, Decision("group_from", "image", DecisionReason.GROUPS_PER_IMAGE, source)
    if group_from is None:
        keys = [s.group for s in samples]
        if not any(keys):
            return None, Decision("group_from", None, DecisionReason.NO_GROUPS_FOUND, source)
        given: Evidence = {"num_groups": len({k for k in keys if k}), "layout": samples.layout}
        return number_groups(keys), Decision("group_from", "given", DecisionReason.GROUPS_GIVEN_BY_DATA, source, given)
    keys, what = group_keys(samples, group_from)
    num_groups = len({k for k in keys if k})
    evidence: Evidence = {
        "grouped_by": what,
        "name": group_from,
        "num_groups": num_groups,
        "num_without_group": sum(not k for k in keys),
    }
    return number_groups(keys), Decision("group_from", group_from, DecisionReason.GROUPS_REQUESTED, source, evidence)


def group_keys(samples: Samples, group_from: str) -> tuple[list[str | None], str]:
    """Return the group of each image by a column, template or expression, and which of these it is.

    Raises:
        UsageError: There is no such column, and no file name matches.
    """
    if (column := _column(samples, group_from)) is not None:
        keys: list[str | None] = column
        what = "column"
    elif (joined := _joined_columns(samples, group_from)) is not None:
        keys, what = joined, "column"
    elif group_from in TIMES:
        keys, what = _capture_keys(samples, TIMES[group_from]), "capture_time"
    elif group_from == "folder":
        keys, what = [s.name.rpartition("/")[0] for s in samples], "folder"
    elif "{group}" in group_from:
        template = Template(group_from, file_only="/" not in group_from)
        keys = [(template.match(s.name) or {}).get("group") for s in samples]
        what = "template"
    else:
        keys, what = _by_expression(samples, group_from), "expression"
    if not any(keys):
        known = ", ".join(f"`{c}`" for c in samples.columns) or "none"
        raise UsageError(
            f"--group-from `{group_from}` is neither a column of the table nor a pattern that matches a file name.",
            hint=f"available columns: {known}; a pattern looks like '{{group}}_*' and an expression like '^(.*?)_'",
        )
    return keys, what


def _column(samples: Samples, name: str) -> list[str | None] | None:
    """Return the values of a column, of the given groups by `group` or their column; None without such a column."""
    if name in samples.columns:
        return [None if is_placeholder(v) else v.strip() for v in samples.columns[name]]
    is_group = name in ("group", samples.used_columns.get("group_column"))
    return [s.group for s in samples] if is_group and any(s.group for s in samples) else None


def _joined_columns(samples: Samples, names: str) -> list[str | None] | None:
    """Return the pairs of values of columns `A+B`, one of which may be `label`; None if a column does not exist."""
    parts = names.split("+")
    columns = [[s.label for s in samples] if part == "label" else _column(samples, part) for part in parts]
    if len(parts) < 2 or None in columns:
        return None
    rows = zip(*(column for column in columns if column is not None), strict=True)
    return [None if None in row else "\0".join(map(str, row)) for row in rows]


def _capture_keys(samples: Samples, pause: float) -> list[str | None]:
    from headstart.preprocessing.exif import read_exif
    from headstart.preprocessing.image_spec import ImageError, open_image

    times_taken, cameras = [], []
    for sample in samples:
        try:
            with open_image(sample.path, 1 << 40) as image:
                exif = read_exif(image)
            times_taken.append(exif.taken)
            cameras.append(exif.camera or "")
        except ImageError:
            times_taken.append(None)
            cameras.append("")
    return keys_by_time(times_taken, cameras, pause)


def _by_expression(samples: Samples, expression: str) -> list[str | None]:
    try:
        pattern = re.compile(expression)
    except re.error as error:
        raise UsageError(
            f"--group-from `{expression}` is neither a column of the table nor a regular expression ({error}).",
            hint="e.g. --group-from '^(.*?)_' takes the text before the first underscore",
        ) from error
    keys: list[str | None] = []
    for sample in samples:
        match = pattern.search(sample.name if "/" in expression else sample.name.rpartition("/")[2])
        if match is None:
            keys.append(None)
        else:
            keys.append("|".join(g or "" for g in match.groups()) if match.groups() else match.group())
    return keys


def number_groups(keys: list[str | None]) -> NDArray[np.int64]:
    """Return ids by first appearance; a sample without a key gets an id of its own."""
    known: dict[str, int] = {}
    ids = np.empty(len(keys), dtype=np.int64)
    following = 0
    for i, key in enumerate(keys):
        if key and key in known:
            ids[i] = known[key]
            continue
        if key:
            known[key] = following
        ids[i] = following
        following += 1
    return ids
