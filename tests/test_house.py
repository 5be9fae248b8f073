"""Test the package layers: imports only from lower layers, no cycles, light imports."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

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


READERS = (
    r"headstart\.(data\.boxes\.(?!endings$|records$).*|data\.containers\.(?!store$).*|data\.(memory|page_selection))$"
)
HEAVY = r"(torch|timm|sklearn|scipy|pandas|matplotlib)$"


def loaded_modules(statement: str) -> list[str]:
    """Return the modules of a new interpreter after a statement."""
    code = f"import sys, headstart\n{statement}\nprint('modules:', *sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.partition("modules:")[2].split()


def test_check_of_class_folders_imports_no_modules_of_other_tasks(tmp_path: Path) -> None:
    for i in range(8):
        (tmp_path / f"class{i % 2}").mkdir(exist_ok=True)
        Image.new("RGB", (32, 32), (30 * i, 90, 255 - 30 * i)).save(tmp_path / f"class{i % 2}" / f"{i}.png")
    loaded = loaded_modules(f"headstart.check({str(tmp_path)!r}, use_network=False, use_cache=False)")
    other = r"headstart\.(config\.settings|(detection|reports|training)\..*|quality\.box_.*|inference\.writers)$"
    unwanted = rf"{HEAVY}|{READERS}|{other}|(pydantic|yaml|xml|http|onnx|onnxruntime)$"
    assert "headstart.quality.inspector" in loaded
    assert [m for m in loaded if re.match(unwanted, m)] == []


def test_training_of_a_probe_imports_no_modules_of_other_tasks() -> None:
    modules = ("bundle", "probe_training", "report_sections", "run_files", "task", "trained_model")
    own = [f"headstart.tasks.classify.{name}" for name in modules]
    own += ["headstart.api.run", "headstart.pipelines.train", "headstart.data.sources", "headstart.tasks.features"]
    other = r"headstart\.(detection\..*|quality\.box_.*|data\.boxes\.reader|training\.(trainer|loop|network))$"
    assert [m for m in loaded_modules(f"import {', '.join(own)}") if re.match(rf"{HEAVY}|{other}", m)] == []


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


def test_only_pipelines_and_tasks_see_the_run_context() -> None:
    users = {own_layer(p) for p in FILES if "RunContext" in p.read_text("utf-8")}
    assert users == {"pipelines", "runs", "tasks"}


def test_no_file_exceeds_500_lines() -> None:
    long = {str(p.relative_to(SOURCE)): n for p in FILES if (n := len(p.read_text("utf-8").splitlines())) > 500}
    assert not long


MAX_LINES, MAX_PARAMETERS = 60, 8

# Functions outside the command line with more than `MAX_PARAMETERS` parameters. The list may only shrink, and an entry
# that is narrow by now fails the test.
WIDE_SIGNATURES = {
    "detection/metrics.py:evaluate_detections",
    "evaluation/metrics.py:evaluate",
    "quality/inspection.py:inspect_dataset",
}


def functions_of(path: Path) -> list[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    """Return the functions of a file with `file:Class.name`, methods and nested functions included."""
    found: list[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]] = []

    def walk(node: ast.AST, prefix: str) -> None:
        for child in ast.iter_child_nodes(node):
            is_function = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef)
            name = f"{prefix}{child.name}." if is_function or isinstance(child, ast.ClassDef) else prefix
            if is_function:
                found.append((name[:-1], child))
            walk(child, name)

    walk(ast.parse(path.read_text(encoding="utf-8")), f"{path.relative_to(SOURCE)}:")
    return found


def num_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Return the lines of a function without its docstring."""
    first = function.body[0]
    has_docstring = ast.get_docstring(function, clean=False) is not None
    docstring = first.end_lineno - first.lineno + 1 if has_docstring else 0
    return function.end_lineno - function.lineno + 1 - docstring


def num_parameters(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Return the parameters of a function without `self` and `cls`."""
    given = [a.arg for a in (*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs)]
    return len([name for name in given if name not in ("self", "cls")])


FUNCTIONS = {name: f for path in FILES if own_layer(path) != "cli" for name, f in functions_of(path)}


def test_functions_are_short() -> None:
    assert not {name for name, f in FUNCTIONS.items() if num_lines(f) > MAX_LINES}


def test_signatures_are_narrow() -> None:
    assert {name for name, f in FUNCTIONS.items() if num_parameters(f) > MAX_PARAMETERS} == WIDE_SIGNATURES


def aliases_of(path: Path) -> list[tuple[str, str]]:
    """Return (name, value) of the capitalized names that a module assigns at top level."""
    assigned = [n for n in ast.parse(path.read_text("utf-8")).body if isinstance(n, ast.Assign | ast.AnnAssign)]
    targets = [(n.targets[0] if isinstance(n, ast.Assign) else n.target, n.value) for n in assigned]
    return [
        (t.id, ast.unparse(v)) for t, v in targets if isinstance(t, ast.Name) and v is not None and t.id[0].isupper()
    ]


def test_array_types_are_named_once() -> None:
    home = SOURCE / "types" / "arrays.py"
    shared = {value for _, value in aliases_of(home)}
    assert shared
    again = [f"{p.relative_to(SOURCE)}: {n}" for p in FILES if p != home for n, v in aliases_of(p) if v in shared]
    assert not again, f"import from types/arrays.py: {again}"
