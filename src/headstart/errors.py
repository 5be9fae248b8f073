"""The tree of errors a person can meet, drawn first.

    HeadstartError                 exit 1   something went wrong and we know what
    ├── UsageError                 exit 2   the command or a setting is not possible
    │   └── SettingError           exit 2   a setting has an unknown name or a value that does not fit
    │       ├── DeviceError        exit 2   there is no such device here, or it cannot be used
    │       └── BudgetError        exit 2   the budget is too small for the shortest training
    ├── DataError                  exit 3   the images or their labels do not allow it
    │   ├── BoxFormatError         exit 3   the numbers of the boxes do not fit the format that the file states
    │   └── InvalidEvaluationError         exit 3   a number could be computed but would mislead
    ├── MissingExtraError          exit 1   an optional part of headstart is not installed
    ├── WeightsError               exit 1   pretrained weights are missing, damaged or of another network
    │   └── OfflineError           exit 1   something would have to be fetched and the network may not be used
    ├── BundleError                exit 1   a saved model cannot be read or does not agree with its training
    └── CacheError                 exit 1   the cache folder cannot be used (full, no permission)

Each error says what happened, what was expected and how to mend it.  The command line catches
`HeadstartError` once; nothing else is ever turned into a plain message, so a traceback is always a
defect of ours.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

__all__ = [
    "BoxFormatError",
    "BudgetError",
    "BundleError",
    "CacheError",
    "CancelledError",
    "DataError",
    "DeviceError",
    "DeviceProblem",
    "HeadstartError",
    "InvalidEvaluationError",
    "MissingExtraError",
    "OfflineError",
    "SettingError",
    "UsageError",
    "WeightsError",
]


class HeadstartError(Exception):
    """Something went wrong and we know what.

    Args:
        message: What happened and what was expected, one or two sentences.
        hint: How to mend it; a command where there is one.
    """

    exit_code = 1

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return self.message if self.hint is None else f"{self.message}\nhint: {self.hint}"

    def __reduce__(self) -> tuple[type, tuple[str, str | None]]:
        return type(self), (self.message, self.hint)


class UsageError(HeadstartError):
    """The command or a setting is not possible."""

    exit_code = 2


class SettingError(UsageError):
    """A setting has an unknown name or a value that does not fit."""


class DeviceProblem(StrEnum):
    """Stable codes of what is wrong with a device."""

    UNKNOWN = "unknown"  # no such name
    SEVERAL = "several"  # more than one device
    UNAVAILABLE = "unavailable"  # this machine, its driver or the installed PyTorch has none of the kind
    NO_SUCH_INDEX = "no_such_index"  # fewer devices of the kind
    UNUSABLE = "unusable"  # it is there, and PyTorch cannot compute on it
    UNSUPPORTED = "unsupported"  # the task runs on the CPU only


class DeviceError(SettingError):
    """There is no such device here, or it cannot be used.

    Args:
        problem: What is wrong.
        message: See `HeadstartError`.
        hint: See `HeadstartError`.
        device: The devices that were asked for.
    """

    def __init__(
        self, problem: DeviceProblem, message: str, hint: str | None = None, *, device: tuple[str, ...]
    ) -> None:
        super().__init__(message, hint)
        self.problem = problem
        self.device = device

    def __reduce__(self) -> tuple[Any, ...]:
        return _device_error, (self.problem, self.message, self.hint, self.device)


def _device_error(problem: DeviceProblem, message: str, hint: str | None, device: tuple[str, ...]) -> DeviceError:
    return DeviceError(problem, message, hint, device=device)


class BudgetError(SettingError):
    """The budget is too small for the shortest training.

    Args:
        message, hint: As in `HeadstartError`.
        least_s: The smallest budget that would do, seconds.
        measured: Seconds behind it: `spent_s` before the training, `training_s` of the shortest one, `ending_s`.
    """

    def __init__(
        self,
        message: str,
        hint: str | None = None,
        least_s: float = 0.0,
        measured: Mapping[str, float] | None = None,
    ) -> None:
        super().__init__(message, hint)
        self.least_s = least_s
        self.measured = dict(measured or {})

    def __reduce__(self) -> tuple[type, tuple[Any, ...]]:
        return type(self), (self.message, self.hint, self.least_s, self.measured)


class DataError(HeadstartError):
    """The images or their labels do not allow what was asked."""

    exit_code = 3


class BoxFormatError(DataError):
    """The boxes of an annotation file do not fit the format that it states.

    Args:
        message, hint: As in `HeadstartError`.
        source: Name of the annotation file.
        stated: Name of the format that it states, e.g. `xywh`.
        fitting: Names of the formats that fit its values.
    """

    def __init__(self, message: str, hint: str | None, source: str, stated: str, fitting: tuple[str, ...]) -> None:
        super().__init__(message, hint)
        self.source, self.stated, self.fitting = source, stated, fitting

    def __reduce__(self) -> tuple[type, tuple[object, ...]]:  # type: ignore[override]
        return type(self), (self.message, self.hint, self.source, self.stated, self.fitting)


class InvalidEvaluationError(DataError):
    """A number could be computed but would mislead."""


class MissingExtraError(HeadstartError):
    """An optional part of headstart is not installed."""

    def __init__(self, what: str, extra: str) -> None:
        super().__init__(
            f"{what} needs the optional part `{extra}` of headstart, which is not installed.",
            hint=f'pip install "headstart[{extra}]"',
        )
        self.what = what
        self.extra = extra

    def __reduce__(self) -> tuple[type, tuple[str, str]]:
        return type(self), (self.what, self.extra)


class WeightsError(HeadstartError):
    """Pretrained weights are missing, damaged or of another network."""


class OfflineError(WeightsError):
    """Something would have to be fetched and the network may not be used."""


class BundleError(HeadstartError):
    """A saved model cannot be read or does not agree with its training."""


class CacheError(HeadstartError):
    """The cache folder cannot be used (full, no permission)."""


class CancelledError(HeadstartError):
    """The user or a program asked the pipeline to stop; what was computed is kept."""

    exit_code = 130
