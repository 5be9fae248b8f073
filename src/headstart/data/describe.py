"""Says in one sentence what was understood of a data set, and in notes what was not used.

The one decision: the sentence holds all that a person needs to see that we misread them (counts, classes,
splits, groups, where it came from), and nothing else.
"""

from __future__ import annotations

from collections import Counter, defaultdict

from headstart.data.folders import Reading
from headstart.data.walk import Tree
from headstart.records import Samples

__all__ = ["left_out_notes", "sentence_of"]


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


def left_out_notes(tree: Tree, reading: Reading | None) -> list[str]:
    """What of a folder is not used although nothing is wrong with it."""
    notes = []
    if reading is not None and reading.unlabelled:
        count = len(reading.unlabelled)
        notes.append(
            f"{count:,} {_many('picture', count)} outside of any class folder "
            f"{'is' if count == 1 else 'are'} left out, e.g. `{reading.unlabelled[0].name}`"
        )
    if tree.empty_folders:
        names = ", ".join(f"`{n}`" for n in sorted(tree.empty_folders)[:5])
        notes.append(f"{len(tree.empty_folders):,} empty {_many('folder', len(tree.empty_folders))}: {names}")
    if tree.others:
        kinds = ", ".join(f"{n:,} {e}" for e, n in tree.others.most_common(4))
        notes.append(f"files that are no pictures were ignored: {kinds}")
    if reading is not None:
        notes.extend(_alike(sorted({r.label for r in reading.rows})))
    return notes


def _alike(names: list[str]) -> list[str]:
    """Class names that differ only by case, space or underscore are probably one class."""
    plain = defaultdict(list)
    for name in names:
        plain["".join(c for c in name.casefold() if c.isalnum()) or name].append(name)
    return [
        "the classes " + " and ".join(f"`{n}`" for n in same) + " differ only in writing; are they one class?"
        for same in plain.values()
        if len(same) > 1
    ]


def _source(layout: str) -> str:
    return {"table": "a table", "list": "a list", "pictures": "a folder"}.get(layout, layout)


def _many(word: str, count: int) -> str:
    if count == 1:
        return word
    return word + ("es" if word.endswith("s") else "s")
