"""Build networks of the three libraries, and put weights into them.

A network that is about to receive weights is built without memory for its parameters and takes the loaded tensors as
they are, so nothing is initialized only to be overwritten. The few networks that compute with tensors while they are
built are built in full.
"""

from __future__ import annotations

from typing import Any

from headstart.errors import MissingExtraError, UsageError

__all__ = ["build_empty", "build_network", "draw_weights"]


def build_network(library: str, arch: str, **arguments: Any) -> Any:
    """Return a network with random weights, in eval mode.

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
    """Build a network without values in its parameters if possible (device `meta`)."""
    import torch

    try:
        with torch.device("meta"):
            return build_network(library, arch, **arguments)
    except (NotImplementedError, RuntimeError):
        return build_network(library, arch, **arguments)


def draw_weights(module: Any, seed: int) -> None:
    """Initialize all layers with random weights as their kinds do; reproducible for a seed."""
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
        # Auxiliary heads are used in training only; the input has the scale of the weights.
        arguments = {"aux_logits": False, "transform_input": False, "init_weights": False, **arguments}
    return models.get_model(arch, weights=None, **arguments).eval()
