"""Test rows at a later cut computed from cached rows at an earlier one."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from headstart.errors import DataError
from headstart.features.backbone_graph import FrozenGraph, find_graph, prepare_graph
from headstart.features.engines import OnnxEngine
from headstart.features.prefix_graph import PrefixGraph, extract_part
from headstart.features.segment_graph import DerivedViews, derived_layout, prepare_segment
from headstart.features.view_activations import ViewActivations, ViewSet
from headstart.preprocessing.augmentation import parse_augment
from headstart.preprocessing.image_spec import ImageSpec
from headstart.store.arrays import ArrayRows, RowLayout
from headstart.store.cache import Cache

SPEC = ImageSpec(size_hw=(16, 16))
BASE = RowLayout(("state0", "stage1"), ((3, 16, 16), (3,)))
PART = RowLayout(("state0", "stage2"), ((6, 16, 16), (6,)))
LATER = derived_layout(BASE, PART)


class Prefix:
    """A frozen prefix: the pixels themselves and their means."""

    def __init__(self) -> None:
        self.num_images = 0

    def run(self, pixels: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
        self.num_images += len(pixels)
        return {"state0": pixels, "stage1": pixels.mean((2, 3))}


class Between:
    """The stages in between: positive and negative states separately, and their means."""

    num_rows = 0

    def feed(self, inputs: dict[str, NDArray[np.float32]]) -> dict[str, NDArray[np.float32]]:
        self.num_rows += len(inputs["from0"])
        made = np.concatenate([np.maximum(inputs["from0"], 0.0), np.maximum(-inputs["from0"], 0.0)], axis=1)
        return {"state0": made, "stage2": made.mean((2, 3))}


@pytest.fixture
def files(photos: Path) -> list[str]:
    return [str(p) for p in sorted(photos.rglob("*.jpg"))[:20]]


def open_both(files: list[str], root: Path) -> tuple[ViewActivations, DerivedViews, Prefix, Between]:
    cache, prefix, between = Cache(root), Prefix(), Between()
    digests = [hashlib.sha256(Path(f).read_bytes()).hexdigest() for f in files]
    space, augment = ArrayRows.open(cache, "activations", BASE, "prefix", SPEC.digest), parse_augment("flip,crop=.5")
    base = ViewActivations(ViewSet(files, digests, files, augment), prefix, SPEC, space, num_threads=2)
    later = DerivedViews(base, between, ArrayRows.open(cache, "activations", LATER, "later", SPEC.digest))  # type: ignore[arg-type]
    return base, later, prefix, between


def test_row_holds_segment_outputs_and_base_features() -> None:
    assert LATER.names == ("state0", "stage2", "stage1")
    assert LATER.shapes == ((6, 16, 16), (6,), (3,))
    assert derived_layout(BASE, RowLayout(PART.names, PART.shapes, "float32")).dtype == "float32"


def test_rows_derive_from_cached_rows_and_are_computed_once(files: list[str], tmp_path: Path) -> None:
    base, later, prefix, between = open_both(files, tmp_path)
    pairs = [(i, v) for v in (0, 1, 2) for i in range(20)]
    assert later.prepare(pairs) == 60
    for view in (1, 0, 2):
        ours = LATER.unpack(later.rows(range(20), [view] * 20))
        theirs = BASE.unpack(base.rows(range(20), [view] * 20))
        np.testing.assert_array_equal(ours["stage1"], theirs["stage1"])
        expected = Between().feed({"from0": theirs["state0"].astype(np.float32)})
        np.testing.assert_array_equal(ours["state0"], expected["state0"].astype(np.float16))
        np.testing.assert_allclose(ours["stage2"], expected["stage2"], atol=2e-3)
    later.close()
    base.close()
    assert (prefix.num_images, between.num_rows) == (60, 60)
    base, later, prefix, between = open_both(files, tmp_path)
    assert later.prepare(pairs) == base.prepare(pairs) == 0
    later.rows(range(20), [2] * 20)
    assert (prefix.num_images, between.num_rows) == (0, 0)


def test_unprepared_rows_are_computed_on_request(files: list[str], tmp_path: Path) -> None:
    base, later, prefix, between = open_both(files, tmp_path)
    later.rows([3, 5], [1, 1])
    later.rows([5, 3], [1, 1])
    assert (prefix.num_images, between.num_rows) == (2, 2)
    later.close()
    base.close()


def test_interruption_leaves_complete_rows(files: list[str], tmp_path: Path) -> None:
    base, later, _, _ = open_both(files, tmp_path)
    later.prepare([(i, v) for v in range(6) for i in range(20)])
    later.rows([0], [0])
    later.close()
    base.close()
    _, again, _, _ = open_both(files, tmp_path)
    np.testing.assert_array_equal(again.rows([0], [0]), later.rows([0], [0]))
    again.close()


def test_damaged_image_is_reported_at_later_cut(files: list[str], tmp_path: Path) -> None:
    copy = tmp_path / "changed.jpg"
    copy.write_bytes(Path(files[0]).read_bytes())
    base, later, _, _ = open_both([str(copy), *files[1:]], tmp_path / "cache")
    copy.write_bytes(b"something else")
    later.prepare([(0, 1)])
    with pytest.raises(DataError, match=r"changed\.jpg"):
        later.rows([0], [1])
    later.close()
    base.close()


class Tiny(torch.nn.Module):
    """Three layers; the outputs of the first two are pooled."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = torch.nn.ModuleList(torch.nn.Conv2d(a, b, 3) for a, b in ((3, 4), (4, 6), (6, 5)))

    def forward(self, pixels: Any) -> Any:
        x, pooled = pixels, []
        for layer in self.layers:
            x = torch.relu(layer(x))
            pooled.append(x.mean((2, 3)))
        return tuple(pooled)


class Part(torch.nn.Module):
    """From the first layer's output to the second's, and the means of both."""

    def __init__(self, layer: Any, num_inputs: int = 1) -> None:
        super().__init__()
        self.layer, self.num_inputs = layer, num_inputs

    def forward(self, *states: Any) -> Any:
        x = torch.relu(self.layer(states[0]))
        return (x, *states[1:], x.mean((2, 3)), states[0].mean((2, 3)))


def tiny_graph(root: Path) -> tuple[Tiny, FrozenGraph]:
    """Return a small network and its graph of pooled features."""
    tiny = Tiny().eval()
    blocks = {"stage1": 4, "stage2": 6, "embedding": 5}
    prepare_graph(root / "tiny", lambda: (tiny, blocks), backbone="tiny", spec=ImageSpec(size_hw=(24, 20)), card={})
    graph = find_graph(root / "tiny")
    assert graph is not None
    return tiny, graph


@pytest.mark.parametrize("way", ["cut out", "exported", "two tensors"])
def test_segment_graph_matches_torch(way: str, tmp_path: Path) -> None:
    tiny, graph = tiny_graph(tmp_path)
    generator = torch.Generator().manual_seed(0)
    states = [torch.randn((2, 4, 22, 18), generator=generator) for _ in range(2 if way == "two tensors" else 1)]
    part = Part(tiny.layers[1], len(states))
    exports: list[int] = []
    with pytest.MonkeyPatch.context() as patch:
        export = torch.onnx.export
        patch.setattr(torch.onnx, "export", lambda *a, **o: (exports.append(1), export(*a, **o)))
        for _ in range(2):  # cached
            made = prepare_segment(
                graph, tmp_path, ("stage2", "stage3"), ["stage2", "stage1"], lambda: (part, states),
                blocks=("stage1", "stage2") if way == "cut out" else None,
            )  # fmt: skip
    assert len(exports) == (0 if way == "cut out" else 1)
    num = len(states)
    assert made.layout.names == (*(f"state{i}" for i in range(num)), "stage2", "stage1")
    assert made.layout.shapes[0] == (6, 20, 16)
    batch = [torch.randn((5, 4, 22, 18), generator=generator) for _ in states]
    got = OnnxEngine(made.path).feed({f"from{i}": s.numpy() for i, s in enumerate(batch)})
    with torch.no_grad():
        for name, expected in zip(made.layout.names, part(*batch), strict=True):
            np.testing.assert_allclose(got[name], expected.numpy(), atol=1e-5)


def test_segment_needing_more_than_the_state_is_not_cut(tmp_path: Path) -> None:
    class Skipping(Tiny):
        def forward(self, pixels: Any) -> Any:
            first = torch.relu(self.layers[0](pixels))
            second = torch.relu(self.layers[1](first)) + pixels.mean((1, 2, 3))[:, None, None, None]
            return first.mean((2, 3)), second.mean((2, 3))

    blocks = {"stage1": 4, "embedding": 6}
    folder = tmp_path / "tiny"
    prepare_graph(folder, lambda: (Skipping(), blocks), backbone="tiny", spec=ImageSpec(size_hw=(24, 20)), card={})
    graph = find_graph(folder)
    assert graph is not None
    assert extract_part(graph.path, "embedding", [], tmp_path / "whole.onnx")
    assert not extract_part(graph.path, "embedding", [], tmp_path / "part.onnx", begin_block="stage1")
    assert not extract_part(graph.path, "embedding", [], tmp_path / "part.onnx", begin_block="stage9")


@pytest.mark.parametrize("damage", ["truncate", "no sidecar"])
def test_damaged_segment_is_exported_again(damage: str, tmp_path: Path) -> None:
    tiny, graph = tiny_graph(tmp_path)
    states = [torch.randn((2, 4, 22, 18), generator=torch.Generator().manual_seed(0))]

    def prepare() -> PrefixGraph:
        return prepare_segment(
            graph, tmp_path, ("stage2", "stage3"), ["stage2", "stage1"], lambda: (Part(tiny.layers[1]), states),
            blocks=("stage1", "stage2"),
        )  # fmt: skip

    first = prepare()
    path = Path(first.path)
    if damage == "truncate":
        path.write_bytes(path.read_bytes()[:100])
    else:
        (path.parent / "graph.json").unlink()
    assert prepare() == first
    assert path.stat().st_size > 100
