"""Test the wheel with base dependencies only, in a separate environment."""

from __future__ import annotations

import csv
import io
import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TRAINING_PART = ["torch", "timm", "torchvision", "sklearn", "onnx", "onnxscript", "safetensors", "scipy", "yaml"]


def call(*command: object, folder: Path) -> str:
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV")}
    done = subprocess.run(
        [str(c) for c in command], cwd=folder, env=environment, capture_output=True, text=True, encoding="utf-8"
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the interpreter of a new environment with the built wheel."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    source.mkdir()
    for name in ("src", "pyproject.toml", "README.md", "LICENSE"):
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("*.egg-info", "__pycache__"))
        elif (ROOT / name).exists():
            shutil.copy(ROOT / name, source / name)
    call(sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", folder, source, folder=folder)
    (wheel,) = folder.glob("headstart-*.whl")
    venv.create(folder / "env", with_pip=True)
    interpreter = folder / "env" / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    done = subprocess.run([interpreter, "-m", "pip", "install", "-q", wheel], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"the base dependencies cannot be installed here: {done.stderr.strip().splitlines()[-1]}")
    return interpreter


@pytest.mark.long
def test_predict_works_in_base_install(python: Path, bundle_path: Path, images: list[Path]) -> None:
    from headstart.api.model import open_model

    folder = python.parents[2]
    probe = "import importlib.util as u, sys; print([n for n in sys.argv[1:] if u.find_spec(n)])"
    assert call(python, "-I", "-c", probe, *TRAINING_PART, folder=folder).strip() == "[]"
    out = call(python, "-m", "headstart", "predict", bundle_path, *images, folder=folder)
    rows = list(csv.DictReader(io.StringIO(out)))
    assert [row["file"] for row in rows] == [str(p) for p in images]
    expected = open_model(bundle_path).predict(images)
    assert [float(row["probability"]) for row in rows] == pytest.approx([p.probability for p in expected], abs=1e-4)
    place = call(python, "-I", "-c", "import headstart; print(headstart.__file__)", folder=folder)
    assert Path(place.strip()).is_relative_to(folder / "env")


@pytest.mark.long
def test_training_extra_is_requested(python: Path, images: list[Path]) -> None:
    done = subprocess.run(
        [python, "-m", "headstart", "train", images[0].parent], cwd=python.parents[2], capture_output=True, text=True
    )
    assert done.returncode == 1
    assert 'pip install "headstart[train]"' in done.stderr
    assert "Traceback" not in done.stderr
