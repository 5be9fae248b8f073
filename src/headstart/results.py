"""Define the result objects of the Python API."""

from __future__ import annotations

import html
import os
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from headstart.errors import MissingExtraError
from headstart.events import Event, FindingMade
from headstart.messages.numbers import percent, pluralize
from headstart.messages.objects import story_html, story_lines
from headstart.messages.protocols import protocol_name
from headstart.types.codes import EvaluationSetup, Finding, ReadingNote
from headstart.types.inventory import Inventory
from headstart.types.records import Prediction

if TYPE_CHECKING:
    from headstart.detection.metrics import DetectionEvaluation
    from headstart.inference.decoders import ImageDetections
    from headstart.types.records import Evaluation, Problem

Scores = TypeVar("Scores")
Result = TypeVar("Result")

__all__ = [
    "DetectionResult",
    "Embedding",
    "EvaluationResult",
    "ImageResults",
    "ModelEvaluation",
    "Predictions",
    "Report",
    "Story",
    "html_table",
    "import_pandas",
    "score_text",
]


class ImageResults(Sequence[Result]):
    """Results in the order of the images.

    Args:
        items: The results; an iterator is read while you iterate, and to its end by all other methods.
    """

    def __init__(self, items: Iterable[Result]) -> None:
        is_iterator = isinstance(items, Iterator)
        self._made = [] if is_iterator else list(items)
        self._rest = iter(items) if is_iterator else iter(())

    @property
    def _items(self) -> list[Result]:
        self._made.extend(self._rest)
        return self._made

    def __len__(self) -> int:
        return len(self._items)

    def __getitem__(self, index: Any) -> Any:
        return self._items[index]

    def __iter__(self) -> Iterator[Result]:
        position = 0
        while position < len(self._made) or self._make_next():
            yield self._made[position]
            position += 1

    def _make_next(self) -> bool:
        """Add the next result; return False at the end."""
        for item in self._rest:
            self._made.append(item)
            return True
        return False


class Predictions(ImageResults[Prediction]):
    """Predictions in the order of the images."""

    def __getitem__(self, index: Any) -> Any:
        items = self._items[index]
        return Predictions(items) if isinstance(index, slice) else items

    @property
    def labels(self) -> list[str | None]:
        """Most probable class of each image, None for unreadable images."""
        return [p.label for p in self._items]

    def rows(self) -> list[dict[str, Any]]:
        """Return one flat dict per image, as in the CSV."""
        rows = []
        for p in self._items:
            row: dict[str, Any] = {"file": p.file, "label": p.label, "probability": p.probability}
            for rank, (name, probability) in enumerate(p.top[1:], start=2):
                row[f"label{rank}"], row[f"probability{rank}"] = name, probability
            row["ood_score"], row["is_ood"] = p.ood_score, p.is_ood
            row["prediction_set"] = None if p.prediction_set is None else list(p.prediction_set)
            row["error"] = p.error
            rows.append(row)
        return rows

    def to_pandas(self) -> Any:
        """Return a pandas DataFrame."""
        return import_pandas().DataFrame(self.rows())

    def to_csv(self, path: str | os.PathLike[str]) -> None:
        """Write the CSV of `headstart predict --out FILE.csv`."""
        from headstart.inference.writers import write_rows

        write_rows(path, self._items)

    def __repr__(self) -> str:
        lines = [pluralize(len(self), "prediction")]
        for p in self._items[:10]:
            ood = ", OOD" if p.is_ood else ""
            prediction = f"{p.label} ({p.probability or 0:.2f}{ood})"
            lines.append(f"  {p.file}: {p.error or prediction}")
        if len(self) > 10:
            lines.append(f"  ... and {len(self) - 10} more")
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        return html_table(self.rows()[:50], pluralize(len(self), "prediction"))


class Story(ABC):
    """A result whose text and HTML are the screen output of its events."""

    @property
    @abstractmethod
    def events(self) -> tuple[Event, ...]:
        """Events of the pipeline, in order."""

    @property
    def findings(self) -> tuple[Finding, ...]:
        """Findings about data and result, in order of detection."""
        findings = (event.finding for event in self.events if isinstance(event, FindingMade))
        return tuple(finding for finding in findings if isinstance(finding, Finding))

    @property
    def notes(self) -> tuple[ReadingNote, ...]:
        """Reading notes: assumptions and unused files."""
        findings = (event.finding for event in self.events if isinstance(event, FindingMade))
        return tuple(note for note in findings if isinstance(note, ReadingNote))

    def to_pandas(self) -> Any:
        """Return a DataFrame with one row per class."""
        return import_pandas().DataFrame(self._class_rows())

    def _class_rows(self) -> list[dict[str, Any]]:
        """Return one row per class."""
        return []

    def __repr__(self) -> str:
        return "\n".join(story_lines(self.events))

    def _repr_html_(self) -> str:
        rows = self._class_rows()
        return story_html(self.events) + (html_table(rows, "classes") if rows else "")


@dataclass(frozen=True, repr=False, kw_only=True)
class ModelEvaluation(Story, Generic[Scores]):
    """Evaluation of a saved model on a user's images.

    Attributes:
        task: Name of the task.
        evaluation: Scores on new images; None without any.
        known: Scores on training images; None without any.
        missing_classes: Classes of the model without an image or a box in the data.
        num_unreadable: Number of unusable images and rows.
        problems: Files, rows and boxes that are not scored or were fixed, with the reason.
        events: Events of the evaluation.
        inventory: The files of the data: used, or the reason why not.
    """

    task: str
    evaluation: Scores | None
    known: Scores | None
    missing_classes: tuple[str, ...]
    num_unreadable: int
    problems: tuple[Problem, ...] = ()
    events: tuple[Event, ...] = ()
    inventory: Inventory = field(default_factory=Inventory)

    @abstractmethod
    def _scores_to_json(self, scores: Scores) -> dict[str, Any]:
        """Return scores as in `metrics.json`."""

    def to_json(self) -> dict[str, Any]:
        """Return JSON-able values, scores as in `metrics.json`."""
        from headstart.messages.findings import finding_to_json
        from headstart.messages.reading import reading_to_json

        return {
            "task": self.task,
            "test": None if self.evaluation is None else self._scores_to_json(self.evaluation),
            "trained_on": None if self.known is None else self._scores_to_json(self.known),
            "missing_classes": list(self.missing_classes),
            "num_unreadable": self.num_unreadable,
            "problems": [asdict(p) for p in self.problems],
            "findings": [finding_to_json(finding) for finding in self.findings],
            **reading_to_json(self.notes, self.inventory),
        }


@dataclass(frozen=True, repr=False, kw_only=True)
class EvaluationResult(ModelEvaluation["Evaluation"]):
    """Evaluation of a saved model on labeled images.

    Attributes:
        new_classes: Labels that are not classes of the model; their images are not scored.
        predictions: Predictions for all scored images, including training images.
        ood: OOD detection and prediction sets on images that it was not trained on: `false_positive_rate` and
            `ood_recall` (fractions of images of known and new classes detected as OOD), `coverage` and `empirical` of
            the sets, each with its count; empty if the model has neither.
    """

    new_classes: tuple[str, ...]
    predictions: Predictions
    ood: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """See `ModelEvaluation`."""
        return {**super().to_json(), "new_classes": list(self.new_classes), "ood": self.ood}

    def _scores_to_json(self, scores: Evaluation) -> dict[str, Any]:
        from headstart.evaluation.metrics import evaluation_to_json

        return evaluation_to_json(scores)

    def _class_rows(self) -> list[dict[str, Any]]:
        return [
            {"class": s.name, "precision": s.precision.value, "recall": s.recall.value, "f1": s.f1.value,
             "support": s.support}
            for s in (self.evaluation.per_class if self.evaluation is not None else ())
        ]  # fmt: skip


@dataclass(frozen=True, repr=False, kw_only=True)
class DetectionResult(ModelEvaluation["DetectionEvaluation"]):
    """Scores of a saved detector on annotated images.

    Attributes:
        new_classes: Number of boxes by name of each class that is not in the detector; they are not scored.
        detections: Detections in each image.
    """

    new_classes: dict[str, int]
    detections: tuple[ImageDetections, ...]

    def to_json(self) -> dict[str, Any]:
        """See `ModelEvaluation`."""
        return {**super().to_json(), "new_classes": self.new_classes}

    def _scores_to_json(self, scores: DetectionEvaluation) -> dict[str, Any]:
        from headstart.detection.metrics import detection_to_json

        return detection_to_json(scores)

    def _class_rows(self) -> list[dict[str, Any]]:
        return [
            {
                "class": c.name,
                "AP50": c.ap50.value,
                "AP50_95": c.ap50_95.value,
                "precision": None if c.point is None else c.point.precision,
                "recall": None if c.point is None else c.point.recall,
                "threshold": None if c.point is None else c.point.threshold,
                "boxes": c.num_boxes,
            }
            for c in (self.evaluation.per_class if self.evaluation is not None else ())
        ]


@dataclass(frozen=True)
class Embedding:
    """Features of images.

    Attributes:
        features: (N, D) float32, final pooled features.
        blocks: Pooled features of several stages, by name.
        paths: N names.
        labels: N labels or None.
    """

    features: NDArray[np.float32]
    blocks: dict[str, NDArray[np.float32]]
    paths: tuple[str, ...]
    labels: tuple[str | None, ...]

    def to_pandas(self) -> Any:
        """Return a DataFrame with one row per image: path, label, features."""
        frame = import_pandas().DataFrame(self.features)
        frame.insert(0, "label", list(self.labels))
        frame.insert(0, "path", list(self.paths))
        return frame

    def __repr__(self) -> str:
        return (
            f"features {self.features.shape} of {pluralize(len(self.paths), 'image')}; blocks: {', '.join(self.blocks)}"
        )

    def _repr_html_(self) -> str:
        return f"<p>{html.escape(repr(self))}</p>"


@dataclass(frozen=True)
class Report:
    """A written report.

    Attributes:
        folder: Folder of `report.html` and its other files.
        data: Contents of `report.json`.
        has_images: Whether it contains images and file names.
    """

    folder: Path
    data: dict[str, Any]
    has_images: bool = True

    @property
    def path(self) -> Path:
        """Path of `report.html`."""
        return self.folder / "report.html"

    @property
    def findings(self) -> list[str]:
        """Findings of the comment as texts."""
        return [f"{r['title']}: {r['text']}" for r in self.data["comment"]["findings"]]

    def _repr_html_(self) -> str:
        """Return the page in a sandboxed frame."""
        page = html.escape(self.path.read_text(encoding="utf-8"), quote=True)
        style = "width:100%;height:40rem;border:1px solid #888"
        return f'<iframe title="headstart report" sandbox="allow-scripts" style="{style}" srcdoc="{page}"></iframe>'

    def __repr__(self) -> str:
        return f"headstart report {self.path}\n{self.data['headline']['sentence']}"


def score_text(score: dict[str, Any]) -> str:
    """Return a score with its interval and protocol on one line."""
    value, low, high = score.get("value"), score.get("low"), score.get("high")
    if value is None:
        return "score: not measurable"
    interval = f" (95 % CI {100 * low:.1f}-{100 * high:.1f})" if low is not None and high is not None else ""
    protocol = f", {protocol_name(EvaluationSetup.from_json(score))}" if score.get("protocol") else ""
    return f"{str(score.get('metric', 'accuracy')).replace('_', ' ')} {percent(value)}{interval}{protocol}"


def html_table(rows: list[dict[str, Any]], caption: str) -> str:
    """Render rows as an HTML table with escaped texts."""
    if not rows:
        return f"<p>{html.escape(caption)}</p>"
    keys = list(rows[0])

    def cell(value: Any) -> str:
        if isinstance(value, list):
            value = ", ".join(str(v) for v in value)
        elif isinstance(value, bool):
            value = "yes" if value else "no"
        text = f"{value:.3f}" if isinstance(value, float) else "" if value is None else str(value)
        return f"<td>{html.escape(text)}</td>"

    head = "".join(f"<th>{html.escape(str(k))}</th>" for k in keys)
    body = "".join("<tr>" + "".join(cell(row.get(k)) for k in keys) + "</tr>" for row in rows)
    title = html.escape(caption)
    return f"<table><caption>{title}</caption><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def import_pandas() -> Any:
    """Return pandas, or raise MissingExtraError."""
    try:
        import pandas
    except ImportError as error:
        raise MissingExtraError("a table as a pandas DataFrame", "pandas") from error
    return pandas
