"""Read checkpoints and load them into a network.

A checkpoint may contain tensors only. It is read by safetensors or `torch.load(weights_only=True)` and must match the
network name by name and shape by shape; differences are reported, not skipped.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from headstart.backbones.library import Card
from headstart.errors import WeightsError

__all__ = ["adapt_channels", "fill_network", "read_tensors"]

_SHOWN = 5  # differences listed in a message; the rest is counted


def read_tensors(path: str | Path) -> dict[str, Any]:
    """Read the named tensors of a `.safetensors` or PyTorch checkpoint, never running code from it.

    Raises:
        WeightsError: The file is missing, damaged, or contains anything but tensors.
    """
    import pickle
    import warnings
    import zipfile

    import torch

    path = Path(path)
    if not path.is_file():
        raise WeightsError(f"the weights file `{path}` does not exist.", hint="pass a .safetensors or .pth file")
    if path.suffix == ".safetensors":
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            # Copied, so that nothing depends on the file, which could be replaced while it is mapped.
            return {k: v.clone() for k, v in load_file(path).items()}
        except SafetensorError as error:
            raise WeightsError(f"`{path}` is not a valid safetensors file ({error}).", hint=_AGAIN) from error
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about unusual pickles, which are refused below
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        with open(path, "rb") as file:
            is_pickle = zipfile.is_zipfile(path) or file.read(1) == b"\x80"
        if not is_pickle:
            raise WeightsError(f"`{path}` is not a PyTorch checkpoint.", hint=_AGAIN) from error
        raise WeightsError(
            f"`{path}` contains more than tensors: opening it could run code, so it is refused.",
            hint="ask its author for a .safetensors file, or save the bare tensors: "
            "torch.save(network.state_dict(), path)",
        ) from error
    except (RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise WeightsError(f"`{path}` is not a valid PyTorch checkpoint ({reason}).", hint=_AGAIN) from error
    return _state_dict(content, path)


_AGAIN = "it is damaged or of another type; download it again"


def fill_network(network: Any, tensors: dict[str, Any], card: Card, *, is_in_order: bool = False) -> None:
    """Load tensors into a network.

    Args:
        network: Built for these weights; its parameters may have no values (device `meta`).
        tensors: From `read_tensors`.
        card: Card for messages and for the library's own adaptation of the file.
        is_in_order: The file has other tensor names but the network's order.

    Raises:
        WeightsError: Names or shapes differ; the message lists them, and the hint states the fix.
    """
    own = network.state_dict()
    if is_in_order and set(own) != set(tensors) and len(own) == len(tensors):
        tensors = dict(zip(own, tensors.values(), strict=True))
    elif set(own) - set(tensors):
        tensors = _as_library_reads(network, tensors)
    tensors = _without_background_class(network, tensors, own)
    tensors = {k: v for k, v in tensors.items() if not _is_auxiliary(k) or k in own}
    _require_fit(own, tensors, card)
    values = {k: v.to(own[k].dtype) if v.is_floating_point() else v for k, v in tensors.items()}
    network.load_state_dict(values, strict=True, assign=any(v.is_meta for v in own.values()))


def adapt_channels(network: Any, num_channels: int) -> str:
    """Adapt the stem of an RGB network to another number of channels.

    One channel gets the sum of the three filters; more channels get repeated filters scaled by 3/n, which keeps the
    magnitude of the responses.

    Returns:
        A one-sentence description.

    Raises:
        WeightsError: The stem rearranges pixels before its first convolution.
    """
    import torch
    from timm.models import adapt_input_conv

    stated = (getattr(network, "pretrained_cfg", None) or {}).get("first_conv")
    names = [stated] if isinstance(stated, str) else list(stated or ())
    if not names:
        names = [n for n, m in network.named_modules() if type(m).__name__ == "Conv2d"][:1]
    for name in names:
        conv = network.get_submodule(name)
        if getattr(conv, "in_channels", None) != 3 or conv.groups != 1:
            raise WeightsError(
                f"the stem of this network rearranges its pixels (`{name}`), so it supports three channels only.",
                hint="repeat a single channel three times, or use another network",
            )
        adapted = adapt_input_conv(num_channels, conv.weight.detach())  # (C, num_channels, k, k)
        conv.weight = torch.nn.Parameter(adapted)
        conv.in_channels = num_channels
    if num_channels == 1:
        return "stem adapted to 1 channel: the filters of red, green and blue are summed"
    how = f"the three filters are repeated in turn and scaled by 3/{num_channels}"
    return f"stem adapted to {num_channels} channels: {how}"


def _state_dict(content: Any, path: Path) -> dict[str, Any]:
    """Unwrap common wrappers of a state dict: trainers' dictionaries and `module.` prefixes."""
    import torch

    for key in ("state_dict_ema", "model_ema", "state_dict", "model", "module"):
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
            break
    if not isinstance(content, dict) or not content or not all(torch.is_tensor(v) for v in content.values()):
        raise WeightsError(
            f"`{path}` does not contain a dictionary of named tensors.",
            hint="save the network with torch.save(network.state_dict(), path)",
        )
    tensors = {str(k): v for k, v in content.items()}
    for prefix in ("module.", "_orig_mod."):
        if all(k.startswith(prefix) for k in tensors):
            tensors = {k.removeprefix(prefix): v for k, v in tensors.items()}
    return tensors


def _as_library_reads(network: Any, tensors: dict[str, Any]) -> dict[str, Any]:
    """Rename tensors as timm does when it reads an author's original file."""
    family = sys.modules.get(type(network).__module__)
    for name in ("checkpoint_filter_fn", "_filter_fn"):
        convert = getattr(family, name, None)
        if convert is None:
            continue
        try:
            converted = convert(dict(tensors), network)
        except (KeyError, AttributeError, TypeError, RuntimeError, ValueError, IndexError):
            continue  # not a file that this function knows; the mismatch is reported with its own names
        if isinstance(converted, dict):
            return converted
    return tensors


def _without_background_class(network: Any, tensors: dict[str, Any], own: dict[str, Any]) -> dict[str, Any]:
    """Drop the background class that some of Google's classifiers have before the first class."""
    offset = (getattr(network, "pretrained_cfg", None) or {}).get("label_offset") or 0
    if not offset:
        return tensors
    return {
        k: v[offset:] if k in own and v.dim() and v.shape[0] == own[k].shape[0] + offset else v
        for k, v in tensors.items()
    }


def _is_auxiliary(name: str) -> bool:
    from headstart.backbones.rules import AUXILIARY

    return name.startswith(AUXILIARY)


def _require_fit(own: dict[str, Any], tensors: dict[str, Any], card: Card) -> None:
    missing = [k for k in own if k not in tensors and not k.endswith("num_batches_tracked")]
    foreign = [k for k in tensors if k not in own]
    other = [k for k in own if k in tensors and own[k].shape != tensors[k].shape]
    for key in own:
        if key.endswith("num_batches_tracked") and key not in tensors:
            tensors[key] = _zero()
    if not (missing or foreign or other):
        return
    shapes = [f"{k} is {_shape(tensors[k])} in the file and {_shape(own[k])} in the network" for k in other]
    if not missing and not foreign and _is_classifier_only(own, other):
        classes = int(tensors[other[0]].shape[0])
        raise WeightsError(
            f"these weights have {classes} classes and {card.title} is built for "
            f"{int(own[other[0]].shape[0])}: {'; '.join(shapes)}.",
            hint=f"set num_classes={classes} in Python, or "
            f"`headstart models import FILE --as {card.name}.mine --classes {classes}`",
        )
    parts = [
        *([f"different shapes: {_some(shapes)}"] if shapes else []),
        *([f"missing in the file: {_some(missing)}"] if missing else []),
        *([f"not in the network: {_some(foreign)}"] if foreign else []),
    ]
    raise WeightsError(
        f"these are not weights of {card.title} (`{card.arch}` of {card.library}): {'. '.join(parts)}.",
        hint="set their network with `--backbone`; `headstart models show NAME --summary` lists its layers and shapes",
    )


def _is_classifier_only(own: dict[str, Any], keys: list[str]) -> bool:
    """Return whether the only difference is the first dimension of one layer near the end."""
    layers = {k.rpartition(".")[0] for k in keys}
    last = [k.rpartition(".")[0] for k in own][-1]
    return len(layers) == 1 and layers == {last}


def _zero() -> Any:
    import torch

    return torch.tensor(0, dtype=torch.long)


def _shape(tensor: Any) -> str:
    return "x".join(str(int(n)) for n in tensor.shape) or "a number"


def _some(items: list[str]) -> str:
    rest = f" and {len(items) - _SHOWN} more" if len(items) > _SHOWN else ""
    return ", ".join(items[:_SHOWN]) + rest
