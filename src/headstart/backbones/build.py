"""Build networks of timm, torchvision and headstart.

Networks whose weights are loaded afterwards are built on the meta device, which avoids allocating and initializing
parameters. The few networks whose constructors compute with tensors are built normally.
"""

from __future__ import annotations

from typing import Any

from headstart.errors import MissingExtraError, UsageError

__all__ = ["build_empty", "build_network", "draw_weights"]


def build_network(library: str, arch: str, **arguments: Any) -> Any:
    """Build a network with random weights, in eval mode.

    Raises:
        MissingExtraError: torch, torchvision or timm is not installed.
        UsageError: The installed library does not have this network.
    """
    try:
        import torch  # noqa: F401
    except ImportError as error:
        raise MissingExtraError("loading a backbone", "train") from error
    if library == "timm":
        return _timm(arch, arguments)
    if library == "torchvision":
        return _torchvision(arch, arguments)
    from headstart.backbones.zfnet import ZFNet

    return ZFNet(**arguments).eval()


def build_empty(library: str, arch: str, **arguments: Any) -> Any:
    """Build a network on the meta device if it supports this, otherwise with random weights."""
    import torch

    try:
        with torch.device("meta"):
            return build_network(library, arch, **arguments)
    except (NotImplementedError, RuntimeError):
        return build_network(library, arch, **arguments)


def draw_weights(module: Any, seed: int) -> None:
    """Reset all layers to random weights by their `reset_parameters`, reproducibly for a seed."""
    import torch

    torch.manual_seed(seed)
    for part in module.modules():
        if hasattr(part, "reset_parameters"):
            part.reset_parameters()


def _timm(arch: str, arguments: dict[str, Any]) -> Any:
    try:
        import timm
    except ImportError as error:
        raise MissingExtraError(f"the network `{arch}`", "train") from error
    if not timm.is_model(arch):
        raise UsageError(
            f"the installed timm {timm.__version__} has no network `{arch}`.", hint="pip install --upgrade timm"
        )
    return timm.create_model(arch, pretrained=False, **arguments).eval()


def _torchvision(arch: str, arguments: dict[str, Any]) -> Any:
    try:
        import torchvision
        from torchvision import models
    except ImportError as error:
        raise MissingExtraError(f"the network `{arch}`", "train") from error
    if arch not in models.list_models(module=models):
        raise UsageError(
            f"the installed torchvision {torchvision.__version__} has no network `{arch}`.",
            hint="pip install --upgrade torchvision",
        )
    if arch in ("googlenet", "inception_v3"):
        # Auxiliary heads are used in training only; the image spec already normalizes the input.
        arguments = {"aux_logits": False, "transform_input": False, "init_weights": False, **arguments}
    return models.get_model(arch, weights=None, **arguments).eval()
