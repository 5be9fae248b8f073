"""Build a bundle of a pretrained network with its own ImageNet classifier, in the cache."""

from __future__ import annotations

from pathlib import Path

from headstart.backbones.cards import find_card
from headstart.errors import MissingExtraError, WeightsError
from headstart.events import EventStream
from headstart.utils.system import atomic_folder, cache_root, private_folder

__all__ = ["direct_bundle"]


def direct_bundle(name: str, events: EventStream, *, offline: bool = False, root: Path | None = None) -> Path:
    """Return the bundle of a network with its own classifier; built once, with torch.

    Raises:
        UsageError: The network does not exist.
        WeightsError: The network has no ImageNet classifier.
        MissingExtraError: The bundle must be built, but the training extra is not installed.
    """
    from headstart.features.extractor import open_graph

    card = find_card(name)
    root = root or cache_root()
    folder = root / "imagenet" / f"{card.name}-{(card.digest or 'tagged')[:16]}"
    if (folder / "bundle" / "bundle.json").is_file():
        return folder
    graph = open_graph(card.name, events, offline=offline, root=root, is_direct=True)
    names = _imagenet_names()
    if graph.blocks["logits"] != len(names):
        raise WeightsError(
            f"{card.name} has {graph.blocks['logits']} outputs, but only {len(names)} class names are known."
        )
    from headstart.export.bundle_writer import BundleGraph
    from headstart.tasks.classify.bundle import write_classifier_bundle

    private_folder(folder.parent)
    with atomic_folder(folder) as temporary:
        source = BundleGraph(graph.path, graph.spec, graph.card)
        write_classifier_bundle(temporary / "bundle", source, names, meta={"strategy": "as pretrained"})
    return folder


def _imagenet_names() -> list[str]:
    """Return ImageNet's 1,000 class names in logit order; duplicate names get their synset appended."""
    try:
        from timm.data import ImageNetInfo
    except ImportError as error:
        raise MissingExtraError("ImageNet class names", "train") from error
    info = ImageNetInfo()
    names = [str(info.index_to_description(i)) for i in range(info.num_classes())]
    return [n if names.count(n) == 1 else f"{n} ({info.index_to_label_name(i)})" for i, n in enumerate(names)]
