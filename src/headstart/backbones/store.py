"""Store imported weights, and carry weights to a machine without a network connection.

Imported files are read once as tensors, must match their network, and are stored as safetensors with a small JSON file
(digest, license, origin); afterwards they work like any other source.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from headstart.backbones.build import build_empty
from headstart.backbones.cards import find_card
from headstart.backbones.library import Card
from headstart.backbones.tensors import fill_network, read_tensors
from headstart.backbones.weights import find_weights, known_digest, store_name, weights_root
from headstart.errors import UsageError, WeightsError
from headstart.events import EventStream
from headstart.utils.system import atomic_folder, file_digest, private_folder

__all__ = ["fetch_weights", "import_weights", "stored_card"]

_MANIFEST = "headstart-weights.json"


def import_weights(source: str | Path, name: str | None = None, *, num_classes: int | None = None) -> list[Card]:
    """Import weights into the store.

    Args:
        source: A `.safetensors` or PyTorch file, or a folder that `fetch_weights` made.
        name: The network of a file; with a tag of your own after a dot (`resnet50.mine`) the network's published
            weights stay available too. Not needed for a folder.
        num_classes: Classes of the file's classifier, if they are not the published ones.

    Returns:
        The cards of the imported weights.

    Raises:
        UsageError: No name for a file.
        WeightsError: The file is damaged, of another network, or differs from its manifest.
    """
    source = Path(source)
    if source.is_dir():
        return _import_folder(source)
    if not name:
        raise UsageError(
            "a weights file does not state its network.",
            hint=f"headstart models import {source} --as NAME",
        )
    return [_import_file(source, *_target(name), num_classes, "imported from a file")]


def fetch_weights(
    names: Sequence[str],
    to: str | Path | None = None,
    *,
    mirror: str | None = None,
    events: EventStream | None = None,
) -> list[dict[str, Any]]:
    """Download weights for use without a network connection, here or on another machine.

    Args:
        names: Networks.
        to: A folder to carry to another machine; None keeps them in this machine's caches.
        mirror: As in `find_weights`.
        events: Receives a stage for each download.

    Returns:
        One entry per network: name, weights tag, file, size in bytes, SHA-256, license, source.

    Raises:
        WeightsError: As in `find_weights`.
    """
    entries = []
    folder = Path(to) if to is not None else None
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        card = find_card(name)
        weights_file = find_weights(card, mirror=mirror, events=events)
        path = weights_file.path
        if folder is not None:
            path = folder / (store_name(card.weights_tag) + weights_file.path.suffix)
            shutil.copyfile(weights_file.path, path)
        entries.append(
            {
                "name": card.name,
                "weights_tag": card.weights_tag,
                "file": path.name if folder is not None else str(path),
                "size_bytes": path.stat().st_size,
                "sha256": weights_file.digest,
                "license": card.license,
                "source": card.source,
            }
        )
    if folder is not None:
        manifest = folder / _MANIFEST
        available = _read_manifest(manifest) if manifest.is_file() else []
        others = [e for e in available if e["weights_tag"] not in {x["weights_tag"] for x in entries}]
        manifest.write_text(json.dumps({"schema": 1, "weights": others + entries}, indent=1), "utf-8")
    return entries


def stored_card(name: str, tag: str) -> Card | None:
    """Return the card of imported weights with a tag of the user's own, or None."""
    card = find_card(name)
    full = f"{card.arch}.{tag}"
    meta = weights_root() / "store" / store_name(full) / "weights.json"
    if not meta.is_file():
        return None
    try:
        return _stored_as(card, full, json.loads(meta.read_text("utf-8")))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise WeightsError(f"`{meta}` is damaged ({error}).", hint=f"import the weights of {name} again") from error


def _import_folder(folder: Path) -> list[Card]:
    manifest = folder / _MANIFEST
    if not manifest.is_file():
        raise WeightsError(
            f"`{folder}` has no {_MANIFEST}, so it was not created by `headstart models fetch`.",
            hint="pass the file itself: headstart models import FILE --as NAME",
        )
    cards = []
    for entry in _read_manifest(manifest):
        path = folder / Path(str(entry["file"])).name
        if not path.is_file() or file_digest(path) != entry["sha256"]:
            raise WeightsError(
                f"`{path}` is missing or was changed (its SHA-256 differs).",
                hint=f"headstart models fetch {entry['name']} --to {folder}   (needs a connection)",
            )
        cards.append(_import_file(path, find_card(str(entry["name"])), None, None, "fetched and carried here"))
    return cards


def _read_manifest(path: Path) -> list[dict[str, Any]]:
    try:
        entries: list[dict[str, Any]] = json.loads(path.read_text("utf-8"))["weights"]
        for entry in entries:
            entry["name"], entry["file"], entry["sha256"], entry["weights_tag"]
    except (ValueError, KeyError, TypeError) as error:
        raise WeightsError(f"`{path}` is damaged ({error}).", hint="run `headstart models fetch` again") from error
    return entries


def _target(name: str) -> tuple[Card, str | None]:
    """Return the network of `--as NAME`, and the user's own tag, if any."""
    base, dot, tag = name.rpartition(".")
    if dot:
        try:
            return find_card(name), None  # a published tag
        except UsageError:
            return find_card(base), tag
    return find_card(name), None


def _import_file(path: Path, card: Card, own_tag: str | None, num_classes: int | None, how: str) -> Card:
    digest = file_digest(path) if path.is_file() else ""
    tensors = read_tensors(path)
    published = known_digest(card)
    is_published = bool(published) and digest.startswith(published)
    if own_tag is None and published and not is_published:
        raise WeightsError(
            f"`{path}` is not the published file of {card.title} (`{card.weights_tag}`): its SHA-256 is "
            f"{digest[:16]}..., expected {published[:16]}...",
            hint=f"give it a tag of its own: headstart models import {path} --as {card.name}.mine",
        )
    tag = card.weights_tag if own_tag is None else f"{card.arch}.{own_tag}"
    if not tag:
        tag = f"{card.arch}.imported"
    classes = num_classes or card.num_classes
    network = build_empty(card.library, card.arch, num_classes=classes)
    fill_network(network, tensors, card, is_in_order=card.source.startswith("package:"))
    folder = weights_root() / "store" / store_name(tag)
    private_folder(folder.parent)
    if folder.exists():
        shutil.rmtree(folder)
    from safetensors.torch import save_file

    meta = {
        "name": card.name,
        "weights_tag": tag,
        "file": "model.safetensors",
        "original_digest": digest,
        "is_published": is_published,
        "num_classes": classes,
        "license": card.license if own_tag is None else "",
        "how": how,
    }
    with atomic_folder(folder) as temporary:
        target = temporary / "model.safetensors"
        save_file({k: v.contiguous().clone() for k, v in network.state_dict().items()}, target)
        meta["digest"] = file_digest(target)
        (temporary / "weights.json").write_text(json.dumps(meta, indent=1), "utf-8")
    return _stored_as(card, tag, meta)


def _stored_as(card: Card, tag: str, meta: dict[str, Any]) -> Card:
    return replace(
        card,
        weights_tag=tag,
        weights_reason="imported from a file",
        source="store:" + store_name(tag),
        digest=str(meta["digest"]),
        license=str(meta["license"]),
        num_classes=int(meta["num_classes"]),
        top1=card.top1 if meta["is_published"] else None,
        top5=card.top5 if meta["is_published"] else None,
        figures_source=card.figures_source if meta["is_published"] else "",
    )
