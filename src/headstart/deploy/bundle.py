"""The bundle: one small folder (or zip) that holds all it takes to predict, and nothing that runs.

The one decision: `bundle.json` and `model.onnx` alone are the model (`model.safetensors` is there for
those who want to train on), every file is named with its digest in `bundle.json`, and reading gives the
checked bytes themselves, so that what was checked is what is run.
"""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headstart import __version__
from headstart.deploy.onnx_check import check_model
from headstart.errors import BundleError, UsageError
from headstart.machine import atomic_file, atomic_folder
from headstart.pixels.spec import PixelSpec

if TYPE_CHECKING:
    from headstart.heads.linear import LinearHead

__all__ = ["SCHEMA", "Bundle", "amend_bundle", "make_direct_bundle", "read_bundle", "write_bundle"]

SCHEMA = 1
"""Version of the layout; a runtime refuses bundles with a larger one."""

MODEL, WEIGHTS, INFO, TRAINED_ON = "model.onnx", "model.safetensors", "bundle.json", "trained_on.txt"
_LIMITS = {INFO: 1 << 25, MODEL: 2 << 30, WEIGHTS: 4 << 30, TRAINED_ON: 1 << 30}  # bytes
_RESERVED = {"schema", "class_names", "pixels", "temperature", "files", "created_by", "input", "outputs"}
_DIGEST_LENGTH = 16  # hex digits kept of the digests of training pictures


@dataclass(frozen=True)
class Bundle:
    """A bundle that was read and checked.

    Attributes:
        path: Where it was read from.
        class_names: In the order of the logits.
        spec: The pixel contract.
        temperature: Already applied in the logits.
        thresholds: Operating points by name; may be empty.
        info: The whole of `bundle.json`.
        model: The bytes of `model.onnx`.
    """

    path: str
    class_names: tuple[str, ...]
    spec: PixelSpec
    temperature: float
    thresholds: dict[str, Any]
    info: dict[str, Any]
    model: bytes

    @property
    def task(self) -> str:
        return str(self.info["task"])

    def weights(self) -> dict[str, Any]:
        """The tensors of `model.safetensors` by name, as numpy arrays.

        Raises:
            BundleError: The file is missing or damaged.
        """
        from safetensors.numpy import load

        return dict(load(_checked(_open(self.path), WEIGHTS, self.info["files"], self.path)))

    def trained_on(self) -> frozenset[str]:
        """First 16 hex digits of the sha256 of every picture it was trained on; empty where not stored."""
        if TRAINED_ON not in self.info["files"]:
            return frozenset()
        return frozenset(_checked(_open(self.path), TRAINED_ON, self.info["files"], self.path).decode().split())


def write_bundle(
    folder: str | Path,
    *,
    graph_path: str | Path,
    graph_meta: Mapping[str, Any] | None = None,
    head: LinearHead | None,
    spec: PixelSpec,
    class_names: Sequence[str],
    meta: Mapping[str, Any] | None = None,
    has_flip: bool = False,
    weights: Mapping[str, Any] | None = None,
    trained_on: Sequence[str] = (),
) -> Path:
    """Writes a bundle, whole or not at all.

    Args:
        folder: The bundle folder; it must not exist or be empty.
        graph_path: The frozen network (see `assemble`).
        graph_meta: The network's card, JSON-able: `name`, `licence`, `source`, `digest` ...; kept as `backbone`.
        head: The head, or None where the graph ends in its own classifier (output `logits`).
        spec: The pixel contract.
        class_names: In the order of the logits.
        meta: More for `bundle.json`, JSON-able: `task`, `thresholds`, `score`, `weights_licence` ...
        has_flip: Whether features are averaged over the picture and its mirror image.
        weights: Tensors of the network for `model.safetensors`; None takes those of the graph.
        trained_on: sha256 of each training picture, hex.

    Returns:
        The folder.

    Raises:
        BundleError: Graph, head and class names do not fit together.
        UsageError: The folder is there already.
        MissingExtraError: The training part is not installed.
    """
    import numpy as np

    from headstart.deploy.assemble import assemble_direct, assemble_model, graph_tensors
    from headstart.deploy.runtime import measure_latency

    folder = Path(folder)
    meta = dict(meta or {})
    if _RESERVED & set(meta):
        raise ValueError(f"meta may not hold {sorted(_RESERVED & set(meta))}")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"`{folder}` is there already and is not overwritten.", hint="name another folder")
    names = _check_names(class_names)
    if head is not None and head.num_classes != len(names):
        raise BundleError(f"The head knows {head.num_classes} classes, and {len(names)} class names were given.")
    model = assemble_direct(graph_path) if head is None else assemble_model(graph_path, head, has_flip=has_flip)
    tensors = dict(weights) if weights is not None else graph_tensors(Path(graph_path).read_bytes())
    tensors = {f"backbone.{name}": np.ascontiguousarray(value) for name, value in tensors.items()}
    if head is not None:
        tensors |= _head_tensors(head)
    card = dict(graph_meta or {})
    info = {
        "schema": SCHEMA,
        "created_by": f"headstart {__version__}",
        "task": "classify",
        "class_names": list(names),
        "pixels": spec.to_json(),
        "input": {"name": "pixels", "type": "float32", "shape": ["B", 3, *spec.size_hw]},
        "outputs": {"logits": ["B", len(names)], "embedding": "pooled features of the network (B, D)"},
        "temperature": 1.0 if head is None else float(head.temperature),
        "head": None if head is None else head.normaliser.to_json(),
        "has_flip": has_flip,
        "thresholds": {},
        "backbone": card,
        "weights_licence": card.get("licence"),
        "latency": None,
        "score": None,
        **meta,
    }
    info["latency"] = measure_latency(model, spec.size_hw)
    contents = {MODEL: model, WEIGHTS: _safetensors(tensors)}
    if trained_on:
        contents[TRAINED_ON] = "".join(f"{d}\n" for d in sorted({d[:_DIGEST_LENGTH] for d in trained_on})).encode()
    info["files"] = {
        name: {"size_bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()} for name, data in contents.items()
    }
    _remove_leftovers(folder)
    if folder.is_dir():
        folder.rmdir()
    with atomic_folder(folder) as temporary:
        for name, data in contents.items():
            (temporary / name).write_bytes(data)
        (temporary / INFO).write_bytes(_dump(info))
    return folder


def make_direct_bundle(
    folder: str | Path,
    *,
    graph_path: str | Path,
    graph_meta: Mapping[str, Any] | None = None,
    spec: PixelSpec,
    class_names: Sequence[str],
    meta: Mapping[str, Any] | None = None,
) -> Path:
    """Writes a bundle of a network with its own classifier, e.g. the 1,000 classes of ImageNet.

    Args: as in `write_bundle`; the graph has an output `logits` (B, K), and `embedding` where it can.
    """
    return write_bundle(
        folder, graph_path=graph_path, graph_meta=graph_meta, head=None, spec=spec, class_names=class_names, meta=meta
    )


def amend_bundle(folder: str | Path, **changes: Any) -> None:
    """Replaces values of `bundle.json` in one step, e.g. `parity` or `score`, which are known later."""
    if _RESERVED & set(changes):
        raise ValueError(f"these may not be changed: {sorted(_RESERVED & set(changes))}")
    path = Path(folder) / INFO
    info = json.loads(path.read_text(encoding="utf-8")) | changes
    with atomic_file(path) as temporary:
        temporary.write_bytes(_dump(info))


def read_bundle(path: str | Path) -> Bundle:
    """Reads a run folder, a bundle folder or a zip of either, and checks it.

    Nothing is written to the disk: a zip is read in memory, and only the members that a bundle has.

    Raises:
        UsageError: There is nothing at that path.
        BundleError: It is no bundle, is damaged, of a newer schema, or its model reaches outside of itself.
    """
    path = str(path)
    read = _open(path)
    info = _parse_info(read(INFO), path)
    model = _checked(read, MODEL, info["files"], path)
    for name in info["files"]:
        if name != MODEL:
            _checked(read, name, info["files"], path)
    check_model(model, f"{path}/{MODEL}")
    try:
        spec = PixelSpec.from_json(info["pixels"])
        names = _check_names(info["class_names"])
        temperature = float(info["temperature"])
        thresholds = dict(info.get("thresholds") or {})
    except (ValueError, TypeError, BundleError) as error:
        raise _damaged(path, f"`{INFO}` does not fit: {error}") from error
    return Bundle(path, names, spec, temperature, thresholds, info, model)


def _parse_info(data: bytes, path: str) -> dict[str, Any]:
    try:
        info = json.loads(data.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise _damaged(path, f"`{INFO}` cannot be read as JSON ({error})") from error
    if not isinstance(info, dict) or not isinstance(info.get("schema"), int):
        raise _damaged(path, f"`{INFO}` has no schema number")
    if info["schema"] > SCHEMA:
        raise BundleError(
            f"`{path}` was written by a newer headstart (schema {info['schema']}; this one reads up to {SCHEMA}).",
            hint="pip install --upgrade headstart",
        )
    missing = {"task", "class_names", "pixels", "temperature", "files"} - set(info)
    if missing:
        raise _damaged(path, f"`{INFO}` lacks {', '.join(sorted(missing))}")
    files = info["files"]
    if not isinstance(files, dict) or MODEL not in files or set(files) - set(_LIMITS):
        raise _damaged(path, f"`{INFO}` names other files than a bundle has")
    return info


def _checked(read: Callable[[str], bytes], name: str, files: Mapping[str, Any], path: str) -> bytes:
    """One file of the bundle, compared with its digest."""
    data = read(name)
    expected = files[name]
    if not isinstance(expected, dict) or len(data) != expected.get("size_bytes"):
        raise _damaged(path, f"`{name}` has {len(data):,} bytes and should have {dict(expected).get('size_bytes')}")
    if hashlib.sha256(data).hexdigest() != expected.get("sha256"):
        raise _damaged(path, f"`{name}` is not the file that was written (its digest differs)")
    return data


def _open(path: str) -> Callable[[str], bytes]:
    """A function that gives a file of the bundle by name."""
    place = Path(path)
    if place.is_dir():
        for folder in (place, place / "bundle"):
            if (folder / INFO).is_file():
                return lambda name: _read_limited(folder / name, name, path)
        raise BundleError(
            f"`{path}` is neither a run folder nor a bundle: there is no `{INFO}` in it.",
            hint="name the folder that `headstart train` wrote, e.g. runs/train1",
        )
    if not place.exists():
        raise UsageError(f"There is no model at `{path}`.", hint="name a run folder, a bundle folder or its zip")
    if zipfile.is_zipfile(place):
        return _open_zip(place)
    raise BundleError(
        f"`{path}` is not a bundle: a folder with `{INFO}` or a whole zip of one is expected.",
        hint="if it is a zip, copy it again: it may be cut off",
    )


def _read_limited(file: Path, name: str, path: str) -> bytes:
    try:
        if file.stat().st_size > _LIMITS[name]:
            raise _damaged(path, f"`{name}` is larger than any bundle's")
        return file.read_bytes()
    except FileNotFoundError as error:
        raise _damaged(path, f"`{name}` is missing") from error
    except OSError as error:
        raise BundleError(f"`{file}` cannot be read ({error.strerror or error}).") from error


def _open_zip(place: Path) -> Callable[[str], bytes]:
    """Members by name, in memory: nothing is extracted, so no member can land anywhere."""
    path = str(place)
    try:
        with zipfile.ZipFile(place) as archive:
            homes = [n[: -len(INFO)] for n in archive.namelist() if n == INFO or n.endswith(f"/{INFO}")]
    except (zipfile.BadZipFile, OSError, ValueError) as error:
        raise _damaged(path, f"the zip cannot be read ({error})") from error
    if len(homes) != 1:
        raise BundleError(f"`{path}` holds {len(homes)} bundles; one is expected.", hint="zip one bundle folder")

    def read(name: str) -> bytes:
        limit = _LIMITS[name]
        try:
            with zipfile.ZipFile(place) as archive, archive.open(homes[0] + name) as member:
                out = io.BytesIO()
                while chunk := member.read(1 << 20):  # what the header says about the size is not believed
                    out.write(chunk)
                    if out.tell() > limit:
                        raise _damaged(path, f"`{name}` is larger than any bundle's")
                return out.getvalue()
        except KeyError as error:
            raise _damaged(path, f"`{name}` is missing") from error
        except (zipfile.BadZipFile, OSError, ValueError, EOFError, RuntimeError, NotImplementedError) as error:
            raise _damaged(path, f"`{name}` cannot be unpacked ({error})") from error

    return read


def _damaged(path: str, what: str) -> BundleError:
    return BundleError(f"The bundle `{path}` is damaged: {what}.", hint="copy it again, or train again")


def _check_names(class_names: Any) -> tuple[str, ...]:
    if not isinstance(class_names, (list, tuple)) or not all(isinstance(name, str) for name in class_names):
        raise BundleError("Class names are a list of texts.")
    if not class_names or len(set(class_names)) != len(class_names):
        raise BundleError(f"Class names must differ from each other and be at least one; there are {len(class_names)}.")
    return tuple(class_names)


def _head_tensors(head: LinearHead) -> dict[str, Any]:
    """The head before folding: what a network that trains on starts from."""
    import numpy as np

    arrays = {"weight": head.weight, "bias": head.bias, **head.normaliser.arrays()}
    return {f"head.{name}": np.ascontiguousarray(value) for name, value in arrays.items()}


def _safetensors(tensors: dict[str, Any]) -> bytes:
    from headstart.errors import MissingExtraError

    try:
        from safetensors.numpy import save
    except ImportError as error:
        raise MissingExtraError("Writing a bundle", "train") from error
    return bytes(save(tensors, metadata={"format": "np"}))


def _dump(info: Mapping[str, Any]) -> bytes:
    return (json.dumps(info, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode("utf-8")


def _remove_leftovers(folder: Path) -> None:
    """Clears away what a killed writer left beside the folder."""
    import shutil

    for left in folder.parent.glob(f".{folder.name}.*.tmp") if folder.parent.is_dir() else ():
        shutil.rmtree(left, ignore_errors=True)
