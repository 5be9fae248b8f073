"""The data doctor at work: what the images say by themselves, and what a network and a head add to it.

Images are looked at while the network looks at them, each file read and decoded once, and
a whole judgement is remembered under everything it depends on, so that the next one costs nothing.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import asdict, replace

import numpy as np
from numpy.typing import NDArray

from headstart.data.image_scan import ImageScanner, ScanResult, scan_images
from headstart.data.inspection import inspect_dataset
from headstart.data.intensity_range import choose_range, has_16_bit
from headstart.data.scan_cache import ScanCache, digest_of, report_from_note
from headstart.errors import HeadstartError
from headstart.events import EventStream, Stage
from headstart.limits import MAX_PIXELS
from headstart.records import DatasetReport, Decision, Features, Samples
from headstart.system import cache_root

__all__ = ["DatasetInspector"]

_VERSION = 8  # of what a judgement says; judgements of other versions are made anew
_MOST_SCORED = 1500  # more images do not make the effect of groups clearer, only slower to measure


class DatasetInspector:
    """Judges one data set.

    Args:
        samples: The images.
        events: Told how far it is.
        place: Where the data lie, as the person named them.
        intensity_range: What the person asked 16-bit and float images to be mapped from; None chooses.
        max_pixels: Larger images are refused.
        group_from: What belongs together, as the user said; None guesses.
        threads: Worker threads; one a core by default.
        use_memory: Whether what was seen is kept for the next time.
    """

    def __init__(
        self,
        samples: Samples,
        events: EventStream,
        *,
        place: str,
        intensity_range: tuple[float, float] | None = None,
        max_pixels: int = MAX_PIXELS,
        group_from: str | None = None,
        threads: int | None = None,
        use_memory: bool = True,
    ) -> None:
        self.samples = samples
        self._events, self._range, self._max_pixels, self._threads = events, intensity_range, max_pixels, threads
        self._group_from = group_from
        self._memory = ScanCache(cache_root(), place) if use_memory else None
        self.scanner = ImageScanner(samples, max_pixels=max_pixels, cache=self._memory)

    def find_range(self, *, is_split_later: bool = False) -> tuple[tuple[float, float] | None, Decision | None]:
        """What 16-bit and float images are mapped from, and why; looks at everything only where there may be such."""
        if self._range is not None or not has_16_bit(self.samples.paths):
            return self._range, None
        chosen, decision = choose_range(self.samples, self._look())
        if decision is None:
            return chosen, None
        evidence = {**decision.evidence, "includes_held_out": is_split_later}
        return chosen, replace(decision, setting="intensity_range", evidence=evidence)

    def look(self) -> None:
        """Look at every image, where no network is to look at them too."""
        self._look()

    def judge(self, features: Features | None = None, network: str = "") -> DatasetReport:
        """Return the judgement of everything that was looked at.

        Args:
            features: What a network said of the same images, in the same order.
            network: What tells that network from others.
        """
        key = self._key(network if features is not None else "none")
        kept = self._memory.note(key) if self._memory is not None else None
        if kept is not None:
            return report_from_note(kept)
        scan = self.scanner.result()
        health = inspect_dataset(
            self.samples,
            scan=scan,
            embeddings=None if features is None else features.blocks.get("embedding"),
            score=None if features is None else _score(self.samples, features),
            intensity_range=self._range,
            max_pixels=self._max_pixels,
            threads=self._threads,
            group_from=self._group_from,
        )
        if self._memory is not None:
            self._memory.save(scan, {key: asdict(health)})
        return health

    def _look(self) -> ScanResult:
        progress = self._events.progress(Stage.SCAN)
        return scan_images(self.samples, threads=self._threads, progress=progress, scanner=self.scanner)

    def _key(self, network: str) -> str:
        """Return everything that a judgement depends on."""
        rows = [
            "\t".join((digest, s.name, s.label or "", s.split or "", s.group or "", _day(s.path)))
            for digest, s in zip(self.scanner.digests(), self.samples, strict=True)
        ]
        unread = [f"{p.name}\t{p.kind}" for p in (*self.samples.problems, *self.scanner.problems())]
        columns = [f"{name}\t{digest_of(cells)}" for name, cells in self.samples.columns.items()]
        more = [
            *columns,
            network,
            repr(self._range),
            str(self._max_pixels),
            repr(self._group_from),
            self.samples.layout,
        ]
        return f"health-{_VERSION}-{digest_of([*rows, *unread, *more])}"


def _day(path: str) -> str:
    """Return the day a file was last written, which may give its class away; empty where that is not known."""
    try:
        return str(int(os.stat(path).st_mtime // 86400))
    except (OSError, ValueError):
        return ""


def _score(samples: Samples, features: Features) -> Callable[[NDArray[np.int64] | None], float]:
    """Out-of-fold accuracy of a probe on the training images, for any grouping of them."""
    in_training = np.array([s.split in (None, "train") for s in samples], dtype=bool)
    usable = np.flatnonzero(in_training & features.is_ok & (samples.class_ids >= 0))
    if len(usable) > _MOST_SCORED:
        usable = np.sort(np.random.default_rng(0).choice(usable, _MOST_SCORED, replace=False))
    counts = np.bincount(samples.class_ids[usable], minlength=len(samples.class_names))
    usable = usable[counts[samples.class_ids[usable]] >= 2]
    classes, class_ids = np.unique(samples.class_ids[usable], return_inverse=True)

    def score(groups: NDArray[np.int64] | None) -> float:
        from headstart.probe.probe import fit_probe

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
