"""Test the package layers: imports only from lower layers, no cycles, light imports."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).parent.parent / "src" / "headstart"

ARCHITECTURE = SOURCE.parents[1] / "docs" / "architecture.md"
LAYERS = tuple(re.findall(r"^\| `(\w+)` \|", ARCHITECTURE.read_text("utf-8"), re.MULTILINE))
"""Packages, lowest first: a module may only import from its own package and lower ones."""

# Neither torch nor Pillow.
LIGHT = (*LAYERS[: LAYERS.index("preprocessing")], "probe", "evaluation")


def layer_of(module: str) -> str | None:
    """Return the layer of a module, e.g. `data` of `headstart.data.split`; None for the package itself."""
    parts = module.split(".")
    return parts[1] if parts[0] == "headstart" and len(parts) > 1 else None


def imports_of(path: Path) -> list[tuple[str, int]]:
    """Return (module, line) of every import of a file, those in functions and for type checking included."""
    imports = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names = [f"{node.module}.{a.name}" if node.module == "headstart" else node.module for a in node.names]
            imports += [(name, node.lineno) for name in names]
        elif isinstance(node, ast.Import):
            imports += [(alias.name, node.lineno) for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level:
            pytest.fail(f"{path}:{node.lineno}: use absolute imports")
    return imports


FILES = sorted(p for p in SOURCE.rglob("*.py") if p != SOURCE / "__init__.py")


def own_layer(path: Path) -> str:
    relative = path.relative_to(SOURCE)
    return relative.parts[0].removesuffix(".py")


def test_every_layer_exists() -> None:
    present = {p.stem for p in SOURCE.iterdir() if p.suffix == ".py" or (p / "__init__.py").exists()}
    assert present - {"__init__"} == set(LAYERS)
    assert len(set(LAYERS)) == len(LAYERS)


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(SOURCE)))
def test_imports_only_from_lower_layers(path: Path) -> None:
    own = own_layer(path)
    assert own in LAYERS, f"the layer `{own}` is unknown: add it to LAYERS"
    for module, line in imports_of(path):
        layer = layer_of(module)
        if layer is None or layer.startswith("__"):
            continue
        assert LAYERS.index(layer) <= LAYERS.index(own), f"{path}:{line}: {own} may not import {layer}, a higher layer"


@pytest.mark.parametrize("path", [p for p in FILES if own_layer(p) in LIGHT], ids=lambda p: str(p.relative_to(SOURCE)))
def test_pure_layers_import_neither_torch_nor_pillow(path: Path) -> None:
    heavy = {"torch", "torchvision", "timm", "PIL", "onnx", "onnxruntime"}
    used = {module.split(".")[0] for module, _ in imports_of(path)}
    assert not used & heavy


def loaded_by(statement: str) -> set[str]:
    """Return the top-level modules of a new interpreter after a statement."""
    code = f"{statement}\nimport sys\nprint('\\n'.join(sorted({{m.split('.')[0] for m in sys.modules}})))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_package_import_is_light() -> None:
    assert not loaded_by("import headstart") & {"torch", "numpy", "PIL", "typer", "pydantic", "onnxruntime"}


def test_help_imports_nothing_heavy() -> None:
    heavy = {"torch", "timm", "numpy", "PIL", "onnxruntime", "onnx", "sklearn", "pydantic", "yaml", "pandas"}
    assert not loaded_by("import headstart.cli.main") & heavy


def test_no_import_cycles() -> None:
    graph = {path: [m for m, _ in imports_of(path) if m.startswith("headstart.")] for path in FILES}
    names = {p: "headstart." + ".".join(p.relative_to(SOURCE).with_suffix("").parts) for p in FILES}
    by_name = {name.removesuffix(".__init__"): path for path, name in names.items()}
    done: set[Path] = set()

    def walk(path: Path, trail: tuple[Path, ...]) -> None:
        assert path not in trail, " -> ".join(str(p.relative_to(SOURCE)) for p in (*trail, path))
        if path in done:
            return
        for name in graph[path]:
            if name in by_name:
                walk(by_name[name], (*trail, path))
        done.add(path)

    for path in FILES:
        walk(path, ())


def test_no_file_exceeds_500_lines() -> None:
    long = {str(p.relative_to(SOURCE)): n for p in FILES if (n := len(p.read_text("utf-8").splitlines())) > 500}
    assert not long
