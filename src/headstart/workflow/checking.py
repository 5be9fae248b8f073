"""The data doctor composed: what the pictures say by themselves, and what a network and a head add to it."""

from __future__ import annotations

import html
import importlib.util
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headstart.data.health import apply_health, inspect
from headstart.data.looks import look_at_all
from headstart.data.sheet import draw_pairs
from headstart.data.sources import read
from headstart.data.split import write_split
from headstart.data.wording import doctor_lines, health_to_json
from headstart.errors import HeadstartError, UsageError
from headstart.records import Features, Health, Samples, Split
from headstart.results import import_pandas
from headstart.talk import Talk
from headstart.workflow.showing import save_sheet, sheet_kind

__all__ = ["Checked", "check_data", "draw_copies", "write_repaired_split"]

_MOST_PAIRS = 60
_MOST_SCORED = 4000  # more pictures do not make the effect of groups clearer, only slower to measure


@dataclass(frozen=True)
class Checked:
    """A data set and the doctor's judgement of it."""

    samples: Samples
    health: Health

    def to_json(self) -> dict[str, Any]:
        """The judgement, JSON-able; pictures are named relative to the data."""
        return health_to_json(self.health)

    def to_pandas(self) -> Any:
        """The pairs of copies as a DataFrame."""
        pairs = (*self.health.leaks, *self.health.duplicates, *self.health.near_duplicates)
        return import_pandas().DataFrame([asdict(p) for p in dict.fromkeys(pairs)])

    def __repr__(self) -> str:
        return "\n".join(doctor_lines(self.health))

    def _repr_html_(self) -> str:
        return "".join(f"<p>{html.escape(line)}</p>" for line in doctor_lines(self.health))


def check_data(
    data: str,
    talk: Talk,
    *,
    backbone: str = "efficientnet_lite0",
    layout: str | None = None,
    label_pattern: str | None = None,
    value_range: tuple[float, float] | None = None,
    allow_outside: bool = False,
    max_pixels: int = 178_000_000,
    threads: int | None = None,
    offline: bool = False,
    use_network: bool = True,
) -> Checked:
    """Reads and judges a data set, changing nothing.

    Args:
        data: As in `train`.
        talk: Told what happens.
        backbone: Whose features confirm copies and measure what hidden groups do to the score.
        layout, label_pattern, value_range, allow_outside, threads, offline: As in `train`.
        max_pixels: Larger pictures are refused.
        use_network: Whether features are used at all; without the training part they never are.
    """
    samples = read(data, layout=layout, label_pattern=label_pattern, allow_outside=allow_outside)
    talk.say(samples.sentence)
    looks = look_at_all(
        samples, max_pixels=max_pixels, threads=threads, progress=talk.progress("looking at every file")
    )
    embeddings, score = None, None
    if use_network and looks.is_ok.any() and importlib.util.find_spec("torch") is not None:
        features = _embed(samples, talk, backbone, value_range, threads, offline)
        if features is not None:
            embeddings, score = features.blocks["embedding"], _score(samples, features)
    health = inspect(
        samples,
        looks=looks,
        embeddings=embeddings,
        score=score,
        value_range=value_range,
        max_pixels=max_pixels,
        threads=threads,
    )
    return Checked(samples, health)


def draw_copies(checked: Checked, out: str, talk: Talk) -> None:
    """Draws the pairs of copies side by side, leaks and conflicts first; says so where there are none.

    Raises:
        UsageError: The sheet cannot be written.
    """
    sheet_kind(out)
    health = checked.health
    pairs = list(dict.fromkeys((*health.leaks, *health.label_conflicts, *health.duplicates, *health.near_duplicates)))
    if not pairs:
        talk.say(f"there are no copies, so {out} is not drawn")
        return
    rows = []
    for p in pairs[:_MOST_PAIRS]:
        words = f"{p.kind}, {p.similarity:.3f} alike"
        if p.split_a != p.split_b:
            words += f", leak: {p.split_a} / {p.split_b}"
        if p.label_a != p.label_b:
            words += f", labels: {p.label_a} / {p.label_b}"
        rows.append((p.index_a, p.index_b, words))
    left = len(pairs) - len(rows)
    title = f"{len(pairs)} pairs of copies" + (f"; the first {len(rows)} are shown" if left else "")
    save_sheet(draw_pairs(checked.samples, rows, title=title), out, talk)


def write_repaired_split(checked: Checked, out: str, talk: Talk) -> None:
    """Writes the person's split without leaking pictures and without those under two labels; moves no file.

    Raises:
        UsageError: The file cannot be written.
    """
    samples, applied = checked.samples, apply_health(checked.samples, checked.health)
    assignment = np.array([s.split or "train" for s in samples], dtype="<U5")
    assignment[applied.left_out | (applied.test_as_given & ~applied.test)] = ""
    split = Split(assignment, applied.groups, "given", "given", 0, "your own split without what leaks")
    try:
        write_split(out, samples, split)
    except OSError as error:
        raise UsageError(f"`{out}` cannot be written ({error.strerror or error}).") from error
    talk.say(f"{out}: {int((assignment == '').sum())} pictures left out; use it with headstart train --split {out}")


def _embed(
    samples: Samples,
    talk: Talk,
    backbone: str,
    value_range: tuple[float, float] | None,
    threads: int | None,
    offline: bool,
) -> Features | None:
    from headstart.workflow.embedding import open_embedder

    try:
        embedder = open_embedder(backbone, talk, value_range=value_range, threads=threads, offline=offline)
    except HeadstartError as error:
        talk.warn(f"copies are confirmed on pixels alone, since no network can be used: {error.message}")
        return None
    features, _, _ = embedder.embed(samples.paths, samples.names, talk)
    return features if features.is_ok.any() else None


def _score(samples: Samples, features: Features) -> Callable[[NDArray[np.int64] | None], float]:
    """Out-of-fold accuracy of a probe on the training pictures, for any grouping of them."""
    in_training = np.array([s.split in (None, "train") for s in samples], dtype=bool)
    usable = np.flatnonzero(in_training & features.is_ok & (samples.class_ids >= 0))
    if len(usable) > _MOST_SCORED:
        usable = np.sort(np.random.default_rng(0).choice(usable, _MOST_SCORED, replace=False))
    counts = np.bincount(samples.class_ids[usable], minlength=len(samples.class_names))
    usable = usable[counts[samples.class_ids[usable]] >= 2]
    classes, class_ids = np.unique(samples.class_ids[usable], return_inverse=True)

    def score(groups: NDArray[np.int64] | None) -> float:
        from headstart.heads.probe import fit_probe

        try:
            fit = fit_probe(
                {name: block[usable] for name, block in features.blocks.items()},
                class_ids.astype(np.int64),
                len(classes),
                groups=None if groups is None else groups[usable],
                logistic=False,
            )
        except HeadstartError:  # too few classes or groups: then the effect cannot be measured
            return float("nan")
        return float(fit.candidate_hits[-1].mean())

    return score
