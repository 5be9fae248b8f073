"""Benchmark backbones: stages, engines, loading and listing against the libraries themselves."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks._common import Figures
from headstart.backbones import list_cards, load_backbone
from headstart.backbones.build import build_network
from headstart.backbones.library import library_table
from headstart.pipelines.backbone_bench import bench


def main() -> None:
    """Measure everything; about five minutes."""
    figures = Figures("backbones")
    stages(figures)
    listing(figures)
    loading(figures)
    engines(figures)
    figures.save()


def stages(figures: Figures) -> None:
    """Count the networks with detected stages in the packaged table, which was made by running all of them."""
    timm = {k: v for k, v in library_table().items() if k.startswith("timm:")}
    count = sum("stages" in v for v in timm.values())
    share = 100 * count / len(timm)
    note = f"{count} of {len(timm)} convolutional networks of timm"
    figures.add("networks of timm with detected stages, %", share, "at least 95", is_met=share >= 95, note=note)
    tv = {k: v for k, v in library_table().items() if k.startswith("tv:")}
    figures.add(
        "networks of torchvision with detected stages, %", 100 * sum("stages" in v for v in tv.values()) / len(tv)
    )


def listing(figures: Figures) -> None:
    """Time `headstart models` in a separate process, interpreter start included."""
    code = (
        "import sys, typer\n"
        "from headstart.cli import models\n"
        "app = typer.Typer(); models.register(app)\n"
        "app(['models'], standalone_mode=False)\n"
        "sys.exit('torch' in sys.modules)\n"
    )
    times = []
    for _ in range(5):
        started = time.perf_counter()
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
        times.append(time.perf_counter() - started)
        assert done.returncode == 0, "listing imported torch"
    figures.add(f"listing {len(list_cards())} cards, s", min(times), "under 1", is_met=min(times) < 1)


def loading(figures: Figures) -> None:
    """Time building a network and loading its weights, against the library with the same file."""
    import timm
    import torch
    from safetensors.torch import load_file, save_file
    from torchvision import models

    with tempfile.TemporaryDirectory() as folder:
        for name, arch in (("resnet50", "resnet50"), ("vgg16", "vgg16"), ("mobilenetv2", "mobilenetv2_100")):
            file = Path(folder) / f"{name}.safetensors"
            save_file(build_network("timm", arch).state_dict(), file)

            def own(name: str = name, file: Path = file) -> None:
                load_backbone(name, weights=str(file))

            def library(arch: str = arch, file: Path = file) -> None:
                timm.create_model(arch).load_state_dict(load_file(file))

            _ratio(figures, f"loading {name} against timm", own, library)
        file = Path(folder) / "alexnet.pth"
        torch.save(build_network("torchvision", "alexnet").state_dict(), file)

        def own_alexnet() -> None:
            load_backbone("alexnet", weights=str(file))

        def torchvisions() -> None:
            models.alexnet().load_state_dict(torch.load(file, weights_only=True))

        _ratio(figures, "loading alexnet against torchvision", own_alexnet, torchvisions)


def _ratio(figures: Figures, what: str, own, library) -> None:  # type: ignore[no-untyped-def]
    best = [float("inf"), float("inf")]
    for _ in range(4):
        for i, run in enumerate((own, library)):
            started = time.perf_counter()
            run()
            best[i] = min(best[i], time.perf_counter() - started)
    ratio = best[0] / best[1]
    figures.add(what, ratio, "at most 1.3", is_met=ratio <= 1.3, note=f"{best[0]:.2f} s against {best[1]:.2f} s")


def engines(figures: Figures) -> None:
    """Compare the frozen engine with eager torch: all cores, alternating in one process."""
    for result in bench(["vgg16", "resnet50", "mobilenetv2"], seconds=6.0, has_training=False):
        ratio = (result.onnx_rate or 0.0) / result.torch_rate
        chosen = ratio if result.engine == "onnx" else 1.0
        note = f"{result.onnx_rate} against {result.torch_rate} images/s; chosen: {result.engine}"
        is_met = ratio >= 1.5 or result.engine == "torch"
        figures.add(
            f"frozen engine / torch, {result.name}", ratio, "at least 1.5, or torch chosen", is_met=is_met, note=note
        )
        figures.add(f"chosen engine / torch, {result.name}", chosen, "at least 0.95", is_met=chosen >= 0.95)


if __name__ == "__main__":
    main()
