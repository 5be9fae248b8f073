"""Test the backbone graph: exported once, compared with torch, exported again if damaged."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from headstart.errors import WeightsError
from headstart.events import EventStream, StageFinished, StageStarted
from headstart.features.backbone_graph import FrozenGraph, find_graph, graph_folder, prepare_graph
from headstart.features.engines import OnnxEngine, TorchEngine
from headstart.features.prefix_graph import extract_part
from headstart.preprocessing.image_spec import ImageSpec

SPEC = ImageSpec(size_hw=(24, 20))


class Tiny(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first = torch.nn.Conv2d(3, 4, 3, stride=2)
        self.norm = torch.nn.BatchNorm2d(4)
        self.second = torch.nn.Conv2d(4, 6, 3)
        self.drop = torch.nn.Dropout(0.5)

    def forward(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        x = torch.relu(self.norm(self.first(pixels)))
        return x.mean((2, 3)), self.drop(self.second(x)).mean((2, 3))


BLOCKS = {"stage1": 4, "embedding": 6}


def prepare(folder: Path, module: torch.nn.Module | None = None, **more: Any) -> Any:
    def load() -> tuple[Any, dict[str, int]]:
        if module is None:
            pytest.fail("the graph was exported again")
        return module, BLOCKS

    return prepare_graph(folder, load, backbone="tiny", spec=SPEC, card={"license": "none"}, **more)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("graphs") / "tiny"
    events = EventStream()
    prepare(folder, Tiny(), events=events)
    assert [type(e) for e in events.history] == [StageStarted, StageFinished]
    return folder


def test_matches_torch_for_any_batch(exported: Path) -> None:
    module = Tiny().eval()
    graph = find_graph(exported)
    assert graph is not None
    assert graph.blocks == BLOCKS
    assert graph.spec == SPEC
    for batch in (1, 5):
        pixels = np.random.default_rng(batch).normal(size=(batch, 3, 24, 20)).astype(np.float32)
        ours = OnnxEngine(graph.path).run(pixels)
        expected = TorchEngine(module, tuple(BLOCKS), "cpu").run(pixels)
        for name in BLOCKS:
            np.testing.assert_allclose(ours[name], expected[name], atol=1e-5)


def test_graph_is_exported_once(exported: Path) -> None:
    assert prepare(exported).digest == json.loads((exported / "graph.json").read_text())["digest"]


@pytest.mark.parametrize("damage", ["truncate", "no sidecar", "broken sidecar"])
def test_damaged_graph_is_exported_again(tmp_path: Path, damage: str) -> None:
    folder = tmp_path / "tiny"
    prepare(folder, Tiny())
    if damage == "truncate":
        path = folder / "graph.onnx"
        path.write_bytes(path.read_bytes()[:100])
    elif damage == "no sidecar":
        (folder / "graph.json").unlink()
    else:
        (folder / "graph.json").write_text("{")
    assert find_graph(folder) is None
    assert prepare(folder, Tiny()).blocks == BLOCKS


def test_graph_that_differs_from_torch_raises(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    honest = OnnxEngine.feed

    def wrong(self: OnnxEngine, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        return {name: block + 0.01 for name, block in honest(self, inputs).items()}

    monkeypatch.setattr(OnnxEngine, "feed", wrong)
    with pytest.raises(WeightsError, match="differs"):
        prepare(tmp_path / "tiny", Tiny())
    assert not list(tmp_path.glob("tiny*"))


def test_folder_depends_on_every_input() -> None:
    root = Path("cache")
    folders = {
        graph_folder(root, name, digest, size, kind)
        for name in ("a", "b")
        for digest in ("1", "2")
        for size in ((224, 224), (256, 224))
        for kind in ("pooled", "direct")
    }
    assert len(folders) == 16


def test_other_image_size_has_no_shared_file(tmp_path: Path) -> None:
    graph = FrozenGraph("graph.onnx", "tiny", BLOCKS, SPEC, "abc", {}, {})
    assert graph.at(SPEC.with_(resize_mode="squash")) is graph
    other = graph.at(SPEC.with_(size_hw=(40, 20)))
    assert (other.spec.size_hw, other.path, other.digest) == ((40, 20), "", graph.digest)
    assert not extract_part(other.path, "stage1", (), tmp_path / "part.onnx")
