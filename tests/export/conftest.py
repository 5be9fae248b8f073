"""Fixtures of the export tests."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny_models import CLASSES, SPEC, image, make_graph, make_head

from headstart.export.bundle_writer import BundleGraph
from headstart.tasks.classify.bundle import write_classifier_bundle


@pytest.fixture(scope="session")
def graph_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_graph(tmp_path_factory.mktemp("graph") / "graph.onnx")


@pytest.fixture(scope="session")
def bundle_path(tmp_path_factory: pytest.TempPathFactory, graph_path: Path) -> Path:
    return write_classifier_bundle(
        tmp_path_factory.mktemp("run") / "bundle",
        BundleGraph(graph_path, SPEC, {"name": "tiny", "license": "CC0"}),
        CLASSES,
        make_head(),
        meta={"score": {"accuracy": 0.9}},
        trained_on=["a" * 64, "b" * 64],
    )


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Write nine readable images in several formats and sizes."""
    folder = tmp_path_factory.mktemp("images")
    paths = []
    for i in range(9):
        path = folder / f"image{i}.{('png', 'jpg', 'bmp')[i % 3]}"
        image(i, (60 + 31 * i, 45 + 11 * i)).save(path)
        paths.append(path)
    return paths
