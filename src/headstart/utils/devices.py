"""Parse device names in the spellings of other tools.

The canonical name is that of PyTorch: `auto`, `cpu`, `cuda`, `cuda:1`, `mps`, `xpu:0`. Whether it exists is checked
where torch is loaded (`headstart.features.device_choice.find_device`).
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable

from headstart.errors import DeviceError, DeviceProblem

__all__ = ["parse_device"]

_WITHOUT_INDEX = ("auto", "cpu", "mps")
_WITH_INDEX = ("cuda", "xpu", "hpu", "npu", "mtia")
_EXPECTED = "use auto, cpu, cuda, cuda:1, mps, xpu, or the index of a CUDA device such as 0"
_ONE = "headstart trains on one device: --device 0 takes the first GPU, --device cpu the CPU"


def parse_device(value: object) -> str:
    """Return the name of a device.

    Args:
        value: `auto`, `cpu`, `cuda`, `cuda:1`, `mps` and so on in any case; `gpu` and `gpu:1` (CUDA, or Apple's GPU on
            macOS); `0`, `"0"` or `[0]`, the index of a CUDA device; or a `torch.device`.

    Raises:
        DeviceError: Unknown name or several devices.
    """
    parts = _parts(value)
    if len(parts) > 1:
        raise DeviceError(
            DeviceProblem.SEVERAL, f"`device` names {len(parts)} devices: {', '.join(parts)}.", hint=_ONE, device=parts
        )
    text = parts[0] if parts else ""
    match = re.fullmatch(r"(?:([a-z]+)(?::(\d+))?|(\d+))", text, re.ASCII)
    if match is None:
        raise _unknown(value)
    kind, index = match[1] or "cuda", match[2] or match[3]
    if kind == "gpu":
        kind = "mps" if sys.platform == "darwin" else "cuda"
    if kind in _WITHOUT_INDEX and index in (None, "0") and (kind, index) != ("auto", "0"):
        return kind
    if kind in _WITH_INDEX:
        return kind if index is None else f"{kind}:{int(index)}"
    raise _unknown(value)


def _parts(value: object) -> tuple[str, ...]:
    """Return the devices of a value, in lower case; `cuda:0,1` names two, as in Ultralytics."""
    if isinstance(value, bool):
        raise _unknown(value)
    if isinstance(value, Iterable) and not isinstance(value, str):
        return tuple(part for inner in value for part in _parts(inner))
    return tuple(part.strip() for part in str(value).lower().split(",") if part.strip())


def _unknown(value: object) -> DeviceError:
    return DeviceError(DeviceProblem.UNKNOWN, f"unknown device `{value}`.", hint=_EXPECTED, device=(str(value),))
