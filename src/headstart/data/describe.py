"""Says in one sentence what was understood of a data set.

The one decision: the sentence holds all that a person needs to see that we misread them (counts, classes,
splits, groups, where it came from), and nothing else.
"""

from __future__ import annotations

from collections import Counter

from headstart.records import Samples

__all__ = ["sentence_of"]


def sentence_of(samples: Samples) -> str:
    """One sentence: `2,093 pictures of 10 classes (dress, hat ...) from split folders: train 1,380, test 372.`"""
    labelled = sum(s.label is not None for s in samples)
    text = f"{len(samples):,} {_many('picture', len(samples))}"
    if samples.class_names:
        names = ", ".join(f"`{n}`" for n in samples.class_names[:4])
        more = " ..." if len(samples.class_names) > 4 else ""
        text += f" of {len(samples.class_names)} {_many('class', len(samples.class_names))} ({names}{more})"
    if labelled < len(samples):
        text += f", {len(samples) - labelled:,} without a label"
    text += f", read from {_source(samples.layout)}"
    groups = {s.group for s in samples if s.group}
    if groups:
        text += f", in {len(groups):,} {_many('group', len(groups))} that are kept together"
    splits = Counter(s.split for s in samples if s.split)
    if splits:
        text += ": " + ", ".join(f"{splits[n]:,} {n}" for n in ("train", "val", "test") if splits[n])
        rest = len(samples) - sum(splits.values())
        text += f", {rest:,} without a split (taken as train)" if rest else ""
    text += "."
    if samples.problems:
        count = len(samples.problems)
        text += f" {count:,} {_many('file', count)} cannot be used."
    return text


def _source(layout: str) -> str:
    return {"table": "a table", "list": "a list", "pictures": "a folder"}.get(layout, layout)


def _many(word: str, count: int) -> str:
    if count == 1:
        return word
    return word + ("es" if word.endswith("s") else "s")
