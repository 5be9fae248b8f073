"""Find the compute device by name, or raise an error before any data are read."""

from __future__ import annotations

import warnings
from typing import Any

from headstart.errors import DeviceError, DeviceProblem
from headstart.utils.dependencies import prepare_cuda
from headstart.utils.devices import parse_device

__all__ = ["check_device", "find_device"]

_LABELS = {"cuda": "CUDA GPU", "mps": "MPS (Apple GPU)"}
_USE_CPU = "use --device cpu, or remove --device (auto is the CPU)"


def check_device(name: str) -> None:
    """Check that a device can compute; torch is imported only for other devices than the CPU.

    Raises:
        DeviceError: See `find_device`.
    """
    if name not in ("auto", "cpu"):
        find_device(name)


def find_device(name: str) -> Any:
    """Return the torch device of a name; `auto` is the CPU.

    Args:
        name: See `headstart.utils.devices.parse_device`.

    Raises:
        DeviceError: The name is invalid, the device does not exist here, or PyTorch cannot compute on it.
    """
    import torch

    name = parse_device(name)
    if name in ("auto", "cpu"):
        return torch.device("cpu")
    kind, _, index = name.partition(":")
    if kind == "cuda":
        prepare_cuda()
    count, reason = _count_devices(kind)
    label = _LABELS.get(kind, kind.upper())
    if count == 0:
        raise DeviceError(
            DeviceProblem.UNAVAILABLE,
            f"no {label} is available for `{name}`: {reason}.",
            hint=_USE_CPU,
            device=(name,),
        )
    if index and int(index) >= count:
        available = ", ".join(f"{kind}:{i}" for i in range(count))
        raise DeviceError(
            DeviceProblem.NO_SUCH_INDEX,
            f"`{name}` does not exist: PyTorch sees {count} {label}{'s' if count > 1 else ''}, {available}.",
            hint=f"use --device {available.split(',')[0]}, or {_USE_CPU}",
            device=(name,),
        )
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise DeviceError(
            DeviceProblem.UNUSABLE,
            f"PyTorch cannot compute on `{name}` ({str(error).splitlines()[0]}).",
            hint=_USE_CPU,
            device=(name,),
        ) from error
    return device


def _count_devices(kind: str) -> tuple[int, str]:
    """Return the number of devices that PyTorch sees, and the reason where there is none."""
    import torch

    with warnings.catch_warnings(record=True) as caught:  # e.g. that the driver is too old for this PyTorch
        warnings.simplefilter("always")
        if kind == "mps":
            count = int(torch.backends.mps.is_available())
        else:
            module = getattr(torch, kind, None)
            count = int(module.device_count()) if module is not None and module.is_available() else 0
    version = f"PyTorch {torch.__version__}"
    if kind == "cuda" and torch.version.cuda is None and torch.version.hip is None:
        return count, f"the installed {version} is built without CUDA"
    lines = [line for warning in caught for line in str(warning.message).splitlines()[:1]]
    return count, f"{version} sees none" + (f" ({lines[0].rstrip('.')})" if lines else "")
