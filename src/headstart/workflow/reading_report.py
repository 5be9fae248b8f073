"""Report what the reader of a data set understood, assumed and did not use, for all commands and Python alike."""

from __future__ import annotations

import logging

from headstart.data.boxes.records import DetectionSamples
from headstart.data.reading_notes import problem_lines
from headstart.data.wording import one_line
from headstart.messages.reading import reading_line
from headstart.records import Samples
from headstart.talk import Talk
from headstart.types import Severity
from headstart.workflow.headline import name_files

__all__ = ["report_box_reading", "report_reading"]

_LOG = logging.getLogger("headstart")


def report_reading(samples: Samples, talk: Talk) -> None:
    """Write the sentence about the data, the notes of the reader and the files it cannot use.

    A silent `talk`, the default in Python, sends warnings to the logger `headstart`, which shows them on stderr unless
    logging is configured otherwise.
    """
    infos = [reading_line(n) for n in samples.notes if n.severity is Severity.INFO]
    warnings = [reading_line(n) for n in samples.notes if n.severity is not Severity.INFO]
    warnings += problem_lines(samples.problems)
    talk.say(samples.sentence)
    for line in (*warnings, *infos):
        talk.say(f"  {one_line(line)}")
    if talk.stream is None:
        _LOG.info(samples.sentence)
        for line in warnings:
            _LOG.warning(one_line(line))


def report_box_reading(samples: DetectionSamples, talk: Talk) -> None:
    """Write the sentence about images with boxes, the notes of the reader, and how much was mended or left out.

    A silent `talk` sends warnings and problems to the logger `headstart`, as in `report_reading`.
    """
    infos = [one_line(reading_line(n)) for n in samples.notes if n.severity is Severity.INFO]
    warnings = [one_line(reading_line(n)) for n in samples.notes if n.severity is not Severity.INFO]
    lines = []
    if samples.problems:
        count = len(samples.problems)
        lines.append(f"warning: boxes or files mended or left out: {count:,} (`headstart check` says how):")
        lines += name_files(samples.problems)
    talk.say(samples.sentence)
    for line in (*warnings, *infos):
        talk.say(f"  {line}")
    for line in lines:
        talk.say(line)
    if talk.stream is None:
        _LOG.info(samples.sentence)
        for line in (*warnings, *lines):
            _LOG.warning(line.strip())
