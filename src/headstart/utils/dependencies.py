"""Import dependencies with telemetry disabled and with their files in headstart's cache folder.

onnxruntime (since 1.29, on Linux and macOS) starts its telemetry on import: it writes a device id and an event
database to `~/.cache/Microsoft` and uploads events from a thread a few seconds later. It reads `ORT_DISABLE_TELEMETRY`
only on import, and `disable_telemetry_events()` neither stops the upload nor removes the files. Therefore
`headstart/__init__.py` calls `disable_telemetry` before any other import.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

__all__ = [
    "TELEMETRY_OFF",
    "TelemetryWarning",
    "disable_telemetry",
    "import_onnxruntime",
    "prepare_cuda",
    "prepare_matplotlib",
]

TELEMETRY_OFF = {
    "ORT_DISABLE_TELEMETRY": "1",  # onnxruntime
    "HF_HUB_DISABLE_TELEMETRY": "1",  # huggingface_hub: no usage report, no library versions in request headers
}
"""Environment variables that disable telemetry; child processes inherit them."""

_TRUE = ("1", "true", "yes", "on", "y")
_FIRST_ONNXRUNTIME_WITH_UPLOAD = (1, 29)


class TelemetryWarning(UserWarning):
    """A dependency was imported before headstart, and its telemetry can no longer be disabled."""


def disable_telemetry() -> None:
    """Disable the telemetry of all dependencies in this process and its children.

    Sets the environment variables of `TELEMETRY_OFF`. For dependencies that are already imported, telemetry is disabled
    as far as possible.

    Warns:
        TelemetryWarning: onnxruntime was imported before headstart and has started its telemetry.
    """
    was_off = any(os.environ.get(name, "").strip().lower() in _TRUE for name in ("ORT_DISABLE_TELEMETRY", "CI"))
    os.environ.update(TELEMETRY_OFF)
    hub = sys.modules.get("huggingface_hub.constants")
    if hub is not None:
        hub.HF_HUB_DISABLE_TELEMETRY = True  # type: ignore[attr-defined]
    runtime = sys.modules.get("onnxruntime")
    if runtime is None:
        return
    _disable_events(runtime)
    if not was_off and _uploads(runtime):
        warnings.warn(
            "onnxruntime was imported before headstart and has started its telemetry in this process; "
            "import headstart first, or set ORT_DISABLE_TELEMETRY=1 before Python starts.",
            TelemetryWarning,
            stacklevel=3,
        )


def import_onnxruntime() -> Any:
    """Import onnxruntime with telemetry disabled.

    Raises:
        ImportError: onnxruntime is not installed.
    """
    runtime = importlib.import_module("onnxruntime")
    _disable_events(runtime)
    return runtime


def prepare_matplotlib() -> None:
    """Import matplotlib with its font cache in headstart's cache folder instead of the home folder.

    Has no effect if matplotlib is already imported or `MPLCONFIGDIR` is set. The user's `matplotlibrc` and styles still
    apply.

    Raises:
        ImportError: matplotlib is not installed.
    """
    if "matplotlib" in sys.modules or os.environ.get("MPLCONFIGDIR"):
        importlib.import_module("matplotlib")
        return
    from headstart.errors import CacheError
    from headstart.utils.system import cache_root, private_folder

    try:
        folder = private_folder(cache_root() / "matplotlib")
    except CacheError:
        import atexit
        import shutil
        import tempfile

        folder = Path(tempfile.mkdtemp(prefix="headstart-"))
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
    if _has_own_matplotlib_settings():
        matplotlib = importlib.import_module("matplotlib")
        matplotlib.get_configdir()  # matplotlib caches the results of both functions
        with _environment("MPLCONFIGDIR", str(folder)):
            matplotlib.get_cachedir()
        return
    with _environment("MPLCONFIGDIR", str(folder)):
        matplotlib = importlib.import_module("matplotlib")
        matplotlib.get_configdir()
        matplotlib.get_cachedir()


def prepare_cuda() -> None:
    """Set the CUDA kernel cache to headstart's cache folder instead of `~/.nv`.

    Call before CUDA is initialized. Has no effect if `CUDA_CACHE_PATH` is set.
    """
    from headstart.errors import CacheError
    from headstart.utils.system import cache_root, private_folder

    if not os.environ.get("CUDA_CACHE_PATH"):
        with contextlib.suppress(CacheError):
            os.environ["CUDA_CACHE_PATH"] = str(private_folder(cache_root() / "cuda"))


def _disable_events(runtime: Any) -> None:
    """Call `disable_telemetry_events`, the only switch on Windows; missing in older versions and test doubles."""
    disable = getattr(runtime, "disable_telemetry_events", None)
    if disable is not None:
        disable()


def _uploads(runtime: Any) -> bool:
    """Return whether this version of onnxruntime uploads events."""
    numbers = [int(part) for part in str(getattr(runtime, "__version__", "")).split(".")[:2] if part.isdigit()]
    return sys.platform != "win32" and tuple(numbers) >= _FIRST_ONNXRUNTIME_WITH_UPLOAD


def _has_own_matplotlib_settings() -> bool:
    """Return whether the user has a `matplotlibrc` or styles in matplotlib's default folders."""
    with contextlib.suppress(RuntimeError):  # no home folder
        home = Path.home()
        folders = [Path(os.environ.get("XDG_CONFIG_HOME") or home / ".config") / "matplotlib", home / ".matplotlib"]
        if os.environ.get("LOCALAPPDATA"):
            folders.append(Path(os.environ["LOCALAPPDATA"]) / "matplotlib")
        return any((folder / name).exists() for folder in folders for name in ("matplotlibrc", "stylelib"))
    return False


@contextlib.contextmanager
def _environment(name: str, value: str) -> Iterator[None]:
    """Set an environment variable within the block and remove it afterwards."""
    os.environ[name] = value
    try:
        yield
    finally:
        os.environ.pop(name, None)
