"""Test that dependencies are imported with telemetry off, and write to headstart's cache folder only."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
import warnings
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from headstart.utils import dependencies
from headstart.utils.dependencies import TELEMETRY_OFF, TelemetryWarning, disable_telemetry, import_onnxruntime

SOURCE = Path(__file__).parent.parent / "src" / "headstart"


def environment_after(code: str, **given: str) -> dict[str, str]:
    """Return the environment of a new interpreter after some code."""
    environment = {"PATH": os.environ.get("PATH", os.defpath), "PYTHONPATH": str(SOURCE.parent), **given}
    code += "\nimport json, os\nprint(json.dumps(dict(os.environ)))"
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    variables: dict[str, str] = json.loads(done.stdout.splitlines()[-1])
    return variables


@pytest.mark.parametrize("module", ["headstart", "headstart.cli.main", "headstart.inference.runtime"])
@pytest.mark.parametrize("given", [{}, dict.fromkeys(TELEMETRY_OFF, "0"), dict.fromkeys(TELEMETRY_OFF, "")])
def test_importing_headstart_switches_telemetry_off(module: str, given: dict[str, str]) -> None:
    variables = environment_after(f"import {module}", **given)
    assert {name: variables[name] for name in TELEMETRY_OFF} == dict.fromkeys(TELEMETRY_OFF, "1")


def fake_onnxruntime(monkeypatch: pytest.MonkeyPatch, version: str) -> list[str]:
    """Replace onnxruntime by a fake imported module; return its recorded calls."""
    calls: list[str] = []
    runtime = ModuleType("onnxruntime")
    runtime.__version__ = version  # type: ignore[attr-defined]
    runtime.disable_telemetry_events = lambda: calls.append("disabled")  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "onnxruntime", runtime)
    monkeypatch.setattr(sys, "platform", "linux")
    for name in (*TELEMETRY_OFF, "CI"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    return calls


@pytest.mark.parametrize("version", ["1.29.0", "1.32.0", "2.0.1.dev3"])
def test_onnxruntime_imported_first_warns(version: str, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = fake_onnxruntime(monkeypatch, version)
    with pytest.warns(TelemetryWarning):
        disable_telemetry()
    assert calls == ["disabled"]
    assert os.environ["ORT_DISABLE_TELEMETRY"] == "1"


@pytest.mark.parametrize(
    ("version", "platform", "given"),
    [
        ("1.28.1", "linux", {}), ("1.32.0", "win32", {}), ("", "linux", {}), ("1.32.0", "linux", {"CI": "true"}),
        ("1.32.0", "linux", {"ORT_DISABLE_TELEMETRY": "1"}), ("1.32.0", "linux", {"ORT_DISABLE_TELEMETRY": "Yes"}),
    ],
)  # fmt: skip
def test_no_warning_without_telemetry(
    version: str, platform: str, given: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = fake_onnxruntime(monkeypatch, version)
    monkeypatch.setattr(sys, "platform", platform)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        disable_telemetry()
    assert calls == ["disabled"]


def test_onnxruntime_is_imported_with_its_own_switch_off(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = fake_onnxruntime(monkeypatch, "1.32.0")
    assert import_onnxruntime() is sys.modules["onnxruntime"]
    assert calls == ["disabled"]
    monkeypatch.delattr(sys.modules["onnxruntime"], "disable_telemetry_events")
    import_onnxruntime()  # an older version


def test_hub_imported_first_is_disabled(monkeypatch: pytest.MonkeyPatch) -> None:
    constants: Any = ModuleType("huggingface_hub.constants")
    constants.HF_HUB_DISABLE_TELEMETRY = False
    monkeypatch.setitem(sys.modules, "huggingface_hub.constants", constants)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    disable_telemetry()
    assert constants.HF_HUB_DISABLE_TELEMETRY is True


def test_doctor_reports_telemetry_off(cache_root: Path) -> None:
    from headstart.pipelines.system_check import check_machine

    shown = " ".join(check_machine()[0])
    assert all(f"{name}={value}" in shown for name, value in TELEMETRY_OFF.items())


DRAW = """
from headstart.utils.dependencies import prepare_matplotlib
prepare_matplotlib()
import matplotlib
from matplotlib import font_manager
print(matplotlib.rcParams["axes.titlesize"])
"""


def draw(home: Path, code: str = DRAW, **given: str) -> list[str]:
    """Return the files of the home folder after drawing, and the printed output as last item."""
    home.mkdir(exist_ok=True)
    environment = {"PATH": os.environ.get("PATH", os.defpath), "PYTHONPATH": str(SOURCE.parent), "HOME": str(home)}
    environment |= {"HEADSTART_CACHE": str(home.parent / "cache"), **given}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    files = [str(p.relative_to(home)) for p in home.rglob("*") if p.is_file()]
    return [*sorted(files), done.stdout.split()[-1]]


@pytest.mark.skipif(sys.platform != "linux", reason="matplotlib has other folders elsewhere")
class TestMatplotlib:
    @pytest.fixture(autouse=True)
    def _installed(self) -> None:
        pytest.importorskip("matplotlib")

    def test_matplotlib_font_list_is_in_cache(self, tmp_path: Path) -> None:
        assert draw(tmp_path / "home") == ["large"]
        assert list((tmp_path / "home").iterdir()) == []
        assert list((tmp_path / "cache" / "matplotlib").glob("fontlist*.json"))

    def test_user_settings_apply(self, tmp_path: Path) -> None:
        own = tmp_path / "home" / ".config" / "matplotlib"
        own.mkdir(parents=True)
        (own / "matplotlibrc").write_text("axes.titlesize: small\n", encoding="utf-8")
        assert draw(tmp_path / "home") == [".config/matplotlib/matplotlibrc", "small"]
        assert list((tmp_path / "cache" / "matplotlib").glob("fontlist*.json"))

    def test_user_config_folder_is_used(self, tmp_path: Path) -> None:
        (tmp_path / "mine").mkdir()
        assert draw(tmp_path / "home", MPLCONFIGDIR=str(tmp_path / "mine")) == ["large"]
        assert list((tmp_path / "mine").glob("fontlist*.json"))
        assert not (tmp_path / "cache").exists()

    def test_font_list_is_temporary_without_cache(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        (tmp_path / "tmp").mkdir()
        given = {"HEADSTART_CACHE": str(tmp_path / "file" / "cache"), "TMPDIR": str(tmp_path / "tmp")}
        assert draw(tmp_path / "home", **given) == ["large"]
        assert list((tmp_path / "home").iterdir()) == []
        assert list((tmp_path / "tmp").iterdir()) == []

    def test_environment_is_restored(self, tmp_path: Path) -> None:
        code = DRAW + "import os\nprint(os.environ.get('MPLCONFIGDIR'))"
        assert draw(tmp_path / "home", code) == ["None"]


def test_cuda_kernels_are_compiled_into_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADSTART_CACHE", str(tmp_path))
    monkeypatch.setenv("CUDA_CACHE_PATH", "")
    dependencies.prepare_cuda()
    assert os.environ["CUDA_CACHE_PATH"] == str(tmp_path / "cuda")
    monkeypatch.setenv("CUDA_CACHE_PATH", "/mine")
    dependencies.prepare_cuda()
    assert os.environ["CUDA_CACHE_PATH"] == "/mine"


def imports_without_preparation(path: Path) -> list[tuple[int, str]]:
    """Return lines that import onnxruntime, or matplotlib in a function that does not prepare it."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    prepared: dict[int, int] = {}
    for function in (n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)):
        calls = [
            n.lineno
            for n in ast.walk(function)
            if getattr(getattr(n, "func", n), "id", "") in ("prepare_matplotlib", "using_matplotlib")
        ]
        for node in ast.walk(function):
            if isinstance(node, ast.Import | ast.ImportFrom) and calls and min(calls) < node.lineno:
                prepared[id(node)] = node.lineno
    imports = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom) and id(node) not in prepared:
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else [node.module or ""]
            imports += [(node.lineno, n) for n in names if n.split(".")[0] in ("onnxruntime", "matplotlib")]
    return imports


def test_every_import_is_prepared() -> None:
    strangers = {
        str(p.relative_to(SOURCE)): imports for p in SOURCE.rglob("*.py") if (imports := imports_without_preparation(p))
    }
    assert strangers == {}
