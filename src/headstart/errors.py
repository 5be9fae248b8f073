"""Define the exceptions of headstart.

    HeadstartError                 exit 1   base class of all expected errors
    ├── UsageError                 exit 2   invalid command or setting
    │   └── SettingError           exit 2   unknown setting or invalid value
    │       ├── DeviceError        exit 2   device missing or unusable
    │       └── BudgetError        exit 2   time budget too small
    ├── DataError                  exit 3   unsuitable images or labels
    │   ├── BoxFormatError         exit 3   boxes contradict the stated format
    │   └── InvalidEvaluationError exit 3   score would be misleading
    ├── MissingExtraError          exit 1   optional dependency missing
    ├── WeightsError               exit 1   weights missing, damaged or of another network
    │   └── OfflineError           exit 1   download needed in offline mode
    ├── BundleError                exit 1   saved model unreadable or inconsistent
    ├── CacheError                 exit 1   cache folder unusable
    └── CancelledError             exit 130 stopped by `cancel`

The stable `code` of a class identifies its errors, in Python and in `{"error": {"code", "message", "hint"}}`, which
commands print with `--json`. Each error states the cause, what was expected and the fix. The command line catches only
`HeadstartError`; any other traceback is a bug.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any, ClassVar

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
    """Base class of all expected errors.

    Args:
        message: Cause and expectation, one or two sentences.
        hint: Fix, if possible a command.
    """

    code: ClassVar[str] = "failure"
    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return self.message if self.hint is None else f"{self.message}\nhint: {self.hint}"

    def __reduce__(self) -> tuple[type, tuple[str, str | None]]:
        return type(self), (self.message, self.hint)

    def to_json(self) -> dict[str, dict[str, str | None]]:
        """Return `{"error": {"code", "message", "hint"}}`."""
        return {"error": {"code": self.code, "message": self.message, "hint": self.hint}}


class UsageError(HeadstartError):
    """The command or a setting is invalid."""

    code = "usage"
    exit_code = 2


class SettingError(UsageError):
    """A setting is unknown or its value is invalid."""

    code = "setting"


class DeviceProblem(StrEnum):
    """Stable codes of device problems."""

    UNKNOWN = "unknown"  # no such name
    SEVERAL = "several"  # more than one device
    UNAVAILABLE = "unavailable"  # not available on this machine or in the installed PyTorch
    NO_SUCH_INDEX = "no_such_index"  # fewer devices of this kind
    UNUSABLE = "unusable"  # PyTorch cannot compute on it
    UNSUPPORTED = "unsupported"  # the task runs on the CPU only


class DeviceError(SettingError):
    """The device is missing or unusable.

    Args:
        problem: Code of the problem.
        message: See `HeadstartError`.
        hint: See `HeadstartError`.
        device: Requested devices.
    """

    code = "device"

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
    """The time budget is too small for the shortest training.

    Args:
        message, hint: As in `HeadstartError`.
        min_s: Smallest sufficient budget in seconds.
        measured: Seconds before (`spent_s`), in (`training_s`) and after (`ending_s`) the shortest training.
    """

    code = "budget"

    def __init__(
        self,
        message: str,
        hint: str | None = None,
        min_s: float = 0.0,
        measured: Mapping[str, float] | None = None,
    ) -> None:
        super().__init__(message, hint)
        self.min_s = min_s
        self.measured = dict(measured or {})

    def __reduce__(self) -> tuple[type, tuple[Any, ...]]:
        return type(self), (self.message, self.hint, self.min_s, self.measured)


class DataError(HeadstartError):
    """The images or labels are unsuitable."""

    code = "data"
    exit_code = 3


class BoxFormatError(DataError):
    """The boxes of an annotation file contradict its stated format.

    Args:
        message, hint: As in `HeadstartError`.
        source: Name of the annotation file.
        stated: Name of the stated format, e.g. `xywh`.
        fitting: Names of the formats that fit its values.
    """

    code = "box_format"

    def __init__(self, message: str, hint: str | None, source: str, stated: str, fitting: tuple[str, ...]) -> None:
        super().__init__(message, hint)
        self.source, self.stated, self.fitting = source, stated, fitting

    def __reduce__(self) -> tuple[type, tuple[object, ...]]:  # type: ignore[override]
        return type(self), (self.message, self.hint, self.source, self.stated, self.fitting)


class InvalidEvaluationError(DataError):
    """A score could be computed but would be misleading."""

    code = "invalid_evaluation"


class MissingExtraError(HeadstartError):
    """An optional dependency is not installed."""

    code = "missing_extra"

    def __init__(self, feature: str, extra: str) -> None:
        super().__init__(
            f"{feature} needs the extra `{extra}` of headstart, which is not installed.",
            hint=f'pip install "headstart[{extra}]"',
        )
        self.feature = feature
        self.extra = extra

    def __reduce__(self) -> tuple[type, tuple[str, str]]:
        return type(self), (self.feature, self.extra)


class WeightsError(HeadstartError):
    """Pretrained weights are missing, damaged or of another network."""

    code = "weights"


class OfflineError(WeightsError):
    """A download is needed in offline mode."""

    code = "offline"


class BundleError(HeadstartError):
    """A saved model is unreadable or differs from the trained one."""

    code = "bundle"


class CacheError(HeadstartError):
    """The cache folder cannot be used (full, no permission)."""

    code = "cache"


class CancelledError(HeadstartError):
    """The pipeline was canceled; computed results are kept."""

    code = "cancelled"
    exit_code = 130
