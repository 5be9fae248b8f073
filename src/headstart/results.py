"""What the Python functions return: readable on a console and in a notebook, and easy to carry on with."""

from __future__ import annotations

import html
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from headstart.errors import MissingExtraError
from headstart.events import Event, FindingMade
from headstart.export.prediction_writers import write_rows
from headstart.messages.numbers import percent, pluralize
from headstart.messages.objects import story_html, story_lines
from headstart.messages.protocols import protocol_name
from headstart.records import Prediction
from headstart.types import EvaluationSetup, Finding, ReadingNote

if TYPE_CHECKING:
    from headstart.records import Evaluation, Problem

__all__ = [
    "Embedding",
    "EvaluationResult",
    "Predictions",
    "Report",
    "Story",
    "html_table",
    "import_pandas",
    "score_text",
]


class Predictions(Sequence[Prediction]):
    """Predictions in the order of the images."""

    def __init__(self, items: Sequence[Prediction]) -> None:
        self._items = list(items)

    def __len__(self) -> int:
        return len(self._items)

    def __getitem__(self, index: Any) -> Any:
        found = self._items[index]
        return Predictions(found) if isinstance(index, slice) else found

    def __iter__(self) -> Iterator[Prediction]:
        return iter(self._items)

    @property
    def labels(self) -> list[str | None]:
        """The most probable class of each image, None where it could not be read."""
        return [p.label for p in self._items]

    def rows(self) -> list[dict[str, Any]]:
        """Return one flat dict an image, as in the CSV."""
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
        """Write what `headstart predict --out FILE.csv` writes."""
        write_rows(path, self._items)

    def __repr__(self) -> str:
        lines = [pluralize(len(self), "prediction")]
        for p in self._items[:10]:
            doubt = ", unknown" if p.is_ood else ""
            told = f"{p.label} ({p.probability or 0:.2f}{doubt})"
            lines.append(f"  {p.file}: {p.error or told}")
        if len(self) > 10:
            lines.append(f"  ... and {len(self) - 10} more")
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        return html_table(self.rows()[:50], pluralize(len(self), "prediction"))


class Story:
    """A result whose text and HTML are what the screen shows of its events."""

    @property
    def events(self) -> tuple[Event, ...]:
        """What was read, found and measured, in order."""
        raise NotImplementedError

    @property
    def findings(self) -> tuple[Finding, ...]:
        """What limits or distorts the result, in the order in which it was found."""
        found = (event.finding for event in self.events if isinstance(event, FindingMade))
        return tuple(finding for finding in found if isinstance(finding, Finding))

    @property
    def notes(self) -> tuple[ReadingNote, ...]:
        """What the reader of the data assumed and did not use."""
        found = (event.finding for event in self.events if isinstance(event, FindingMade))
        return tuple(note for note in found if isinstance(note, ReadingNote))

    def _class_rows(self) -> list[dict[str, Any]]:
        """Return one row for each class."""
        return []

    def __repr__(self) -> str:
        return "\n".join(story_lines(self.events))

    def _repr_html_(self) -> str:
        rows = self._class_rows()
        return story_html(self.events) + (html_table(rows, "classes") if rows else "")


@dataclass(frozen=True, repr=False)
class EvaluationResult(Story):
    """A saved model scored on labeled images.

    Attributes:
        evaluation: On images that it was not trained on; None without any.
        known: On images that it was trained on; None without any.
        new_classes: Labels of the data that the model does not know; their images are not scored.
        missing_classes: Classes of the model without an image in the data.
        num_unreadable: Files and rows that could not be used.
        predictions: Of every scored image, those that it was trained on included.
        unknown: OOD detection and prediction sets on images that it was not trained on: `false_alarms` and `detected`
            (shares of images of known and of new classes that are called OOD), `coverage` and `empirical` of the sets,
            each with its count; empty where the model has neither.
        problems: Files and rows that are not scored, with the reason.
        events: What was read, found and measured.
    """

    evaluation: Evaluation | None
    known: Evaluation | None
    new_classes: tuple[str, ...]
    missing_classes: tuple[str, ...]
    num_unreadable: int
    predictions: Predictions
    ood: dict[str, Any] = field(default_factory=dict)
    problems: tuple[Problem, ...] = ()
    events: tuple[Event, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return plain values, evaluations as in `metrics.json`."""
        from headstart.evaluation.metrics import evaluation_to_json
        from headstart.messages.findings import finding_to_json
        from headstart.messages.reading import reading_to_json

        return {
            "test": None if self.evaluation is None else evaluation_to_json(self.evaluation),
            "trained_on": None if self.known is None else evaluation_to_json(self.known),
            "new_classes": list(self.new_classes),
            "missing_classes": list(self.missing_classes),
            "num_unreadable": self.num_unreadable,
            "ood": self.ood,
            "problems": [asdict(p) for p in self.problems],
            "findings": [finding_to_json(finding) for finding in self.findings],
            **reading_to_json(self.notes),
        }

    def to_pandas(self) -> Any:
        """Return one row a class, as a DataFrame."""
        return import_pandas().DataFrame(self._class_rows())

    def _class_rows(self) -> list[dict[str, Any]]:
        if self.evaluation is None:
            return []
        return [
            {"class": s.name, "precision": s.precision.value, "recall": s.recall.value, "f1": s.f1.value,
             "support": s.support}
            for s in self.evaluation.per_class
        ]  # fmt: skip


@dataclass(frozen=True)
class Embedding:
    """Features of images.

    Attributes:
        features: (N, D) float32, the network's final pooled features.
        blocks: The same at several depths, by name.
        paths: N names.
        labels: N labels, None where there is none.
    """

    features: NDArray[np.float32]
    blocks: dict[str, NDArray[np.float32]]
    paths: tuple[str, ...]
    labels: tuple[str | None, ...]

    def to_pandas(self) -> Any:
        """Return one row an image: path, label, then the features."""
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
        folder: Where `report.html` and the files beside it are.
        data: `report.json`.
        has_images: Whether photographs and file names are in it.
    """

    folder: Path
    data: dict[str, Any]
    has_images: bool = True

    @property
    def path(self) -> Path:
        """The page."""
        return self.folder / "report.html"

    @property
    def remarks(self) -> list[str]:
        """The comment on the result, one text a remark."""
        return [f"{r['title']}: {r['text']}" for r in self.data["comment"]["remarks"]]

    def _repr_html_(self) -> str:
        """Return the page inline, in a frame of its own: no server, and nothing of it touches the notebook."""
        page = html.escape(self.path.read_text(encoding="utf-8"), quote=True)
        style = "width:100%;height:40rem;border:1px solid #888"
        return f'<iframe title="headstart report" sandbox="allow-scripts" style="{style}" srcdoc="{page}"></iframe>'

    def __repr__(self) -> str:
        return f"headstart report {self.path}\n{self.data['headline']['sentence']}"


def score_text(score: dict[str, Any]) -> str:
    """Return a score with its interval and protocol on one line."""
    value, low, high = score.get("value"), score.get("low"), score.get("high")
    if value is None:
        return "score: cannot be measured"
    interval = f" (95 %: {100 * low:.1f}-{100 * high:.1f})" if low is not None and high is not None else ""
    how = f", {protocol_name(EvaluationSetup.from_json(score))}" if score.get("protocol") else ""
    return f"{str(score.get('metric', 'accuracy')).replace('_', ' ')} {percent(value)}{interval}{how}"


def html_table(rows: list[dict[str, Any]], caption: str) -> str:
    """Return rows as an HTML table, every text escaped."""
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
    """pandas, or an error that names how to get it."""
    try:
        import pandas
    except ImportError as error:
        raise MissingExtraError("a table as a pandas DataFrame", "pandas") from error
    return pandas
