"""Benchmark the decoded-image cache in full training: time per view and per epoch; some minutes.

Four kinds of images: small photographs (JPEG, shorter side 400), X-rays (mostly JPEG of 640 x 640, which are reduced
before they are cached), gray 300 x 300 PNG, and phone photographs, simulated by enlarging the small ones to 12
megapixels with sensor noise. Variants alternate in one process, so that other processes slow all of them equally.

To check that reduced images train as well, a probe and a whole network are trained on views of cached images and of
the files, and tested on the same images; differences are paired per image.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as training itself sets it

import hashlib
import io
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks._common import Figures, bench_data

NUM = int(os.environ.get("HEADSTART_BENCH_IMAGES", "64"))
ROUNDS = int(os.environ.get("HEADSTART_BENCH_ROUNDS", "3"))
BATCH = 32
_SETS = ("small JPEG", "640 px JPEG", "gray PNG", "phone JPEG")

Make = Callable[[int, int], Any]


def main() -> None:
    """Measure time per view, size per image, and time per epoch."""
    figures = Figures("decoded_cache")
    folder = Path(tempfile.mkdtemp(prefix="headstart-bench-"))
    try:
        for kind, files in zip(_SETS, _images(folder), strict=True):
            _measure(figures, kind, files, folder / "cache")
        _training_loss(figures)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    figures.save(load=os.getloadavg()[0] if hasattr(os, "getloadavg") else None)


def _measure(figures: Figures, kind: str, files: list[str], root: Path) -> None:
    from headstart.features.decoded_cache import DecodedCache, DecodedImages
    from headstart.features.view_activations import ViewSet
    from headstart.preprocessing.augmentation import make_view, parse_augment, view_rng
    from headstart.preprocessing.image_spec import ImageSpec, normalize, read_bytes
    from headstart.store.cache import Cache
    from headstart.training.plan import default_augment

    spec, augment = ImageSpec(), parse_augment(default_augment("full"))
    digests = [hashlib.sha256(Path(f).read_bytes()).hexdigest() for f in files]
    keys = [bytes.fromhex(d) for d in digests]

    def from_file(sample: int, view: int) -> Any:
        rng = view_rng(keys[sample], view, 0) if view else None
        return normalize(make_view(read_bytes(files[sample]), spec, augment, rng), spec)

    cache = DecodedCache(Cache(root / kind.replace(" ", "-")), read_rate=np.inf)
    views = ViewSet(files, digests, files, augment)
    cached = DecodedImages(views, spec, cache)
    nothing = DecodedImages(views, spec)
    for sample in range(len(files)):
        for view in (0, 1):
            cached.make(sample, view)
    cache.rows.flush()
    loaders: dict[str, Make] = {"uncached": from_file, "cached": cached.make, "without cache folder": nothing.make}
    for view in (1, 0):
        what = "view" if view else "plain image"
        times = dict.fromkeys(loaders, 0.0)
        for sample in range(len(files)):
            for name, make in loaders.items():
                started = time.thread_time()
                make(sample, view * (2 + sample))
                times[name] += time.thread_time() - started
        for name, value in times.items():
            figures.add(f"{kind}: ms per {what}, {name}", 1e3 * value / len(files))
        figures.add(f"{kind}: ms per {what}, cached / uncached", times["cached"] / times["uncached"])
    size = sum(f.stat().st_size for f in (root / kind.replace(" ", "-") / "decoded").rglob("*.rows")) / len(files)
    figures.add(f"{kind}: MB per image in the cache, for views and plain", size / 1e6)
    figures.add(f"{kind}: MB per file", sum(os.stat(f).st_size for f in files) / len(files) / 1e6)
    differ = [
        np.abs(from_file(i, 1) - cached.make(i, 1)).max() > 0 or np.abs(from_file(i, 0) - cached.make(i, 0)).max() > 0
        for i in range(len(files))
    ]
    figures.add(f"{kind}: fraction of images whose views differ from those of the file", float(np.mean(differ)))
    _epochs(figures, kind, len(files), {n: loaders[n] for n in ("uncached", "cached")})


def _epochs(figures: Figures, kind: str, num: int, loaders: dict[str, Make]) -> None:
    """Measure the time of one epoch of full fine-tuning, and of creating its views only."""
    import torch

    from headstart.backbones import load_backbone
    from headstart.backbones.suffix_parts import pooled_suffix
    from headstart.probe.probe import fit_probe
    from headstart.training.batch_sources import PixelSource, epoch_order
    from headstart.training.loop import Training
    from headstart.training.network import FinetunedNetwork, HeadModule
    from headstart.training.plan import default_plan
    from headstart.utils.system import available_cores

    cores = available_cores()
    torch.set_num_threads(cores)
    backbone = load_backbone()
    network, ids = backbone.network, np.arange(num) % 4
    head = fit_probe({"embedding": np.random.default_rng(0).random((num, 1280), dtype=np.float32)}, ids, 4).head
    suffix = pooled_suffix(network, "stem", ["embedding"]).to(memory_format=torch.channels_last)
    plan = default_plan("full", "stem", num, 4).with_(epochs=1, batch_size=BATCH)
    seconds: dict[str, list[float]] = {name: [] for name in loaders}
    work: dict[str, list[float]] = {name: [] for name in loaders}
    alone: dict[str, list[float]] = {name: [] for name in loaders}
    net = FinetunedNetwork(
        HeadModule(head), suffix, ("embedding",), owner=backbone.module, stage_of=network.map.stage_of,
        trainable=range(len(network.names)),
    )  # fmt: skip
    sources = {name: PixelSource(make, cores) for name, make in loaders.items()}
    for round_ in range(ROUNDS + 1):
        for name, source in sources.items():  # one epoch each, so that no worker runs ahead while another is timed
            training = Training(net, source, ids, plan, np.arange(num))
            started, worked = time.perf_counter(), time.process_time()
            for _ in training.run():
                pass
            if round_:
                seconds[name].append(time.perf_counter() - started)
                work[name].append(time.process_time() - worked)
    for round_ in range(ROUNDS + 1):
        for name, source in sources.items():
            order = epoch_order(np.arange(num), round_, 1)
            source.announce([(int(s), 100 + round_) for s in order])
            started = time.perf_counter()
            for start in range(0, num, BATCH):
                source.batch(order[start : start + BATCH], np.full(len(order[start : start + BATCH]), 100 + round_))
            if round_:
                alone[name].append(time.perf_counter() - started)
    what = "ms per image and epoch of the whole network"
    for name in loaders:
        figures.add(f"{kind}: {what}, {name}", 1e3 * _median(seconds[name], num))
        figures.add(f"{kind}: {what}, CPU time, {name}", 1e3 * _median(work[name], num))
    figures.add(f"{kind}: epoch, cached / uncached", _median(seconds["cached"]) / _median(seconds["uncached"]))
    figures.add(f"{kind}: epoch, CPU time, cached / uncached", _median(work["cached"]) / _median(work["uncached"]))
    for name in loaders:
        figures.add(f"{kind}: ms per image, views alone by {cores} workers, {name}", 1e3 * _median(alone[name], num))
    for source in sources.values():
        source.close()


def _median(values: list[float], num: int = 1) -> float:
    return float(np.median(values)) / num


def _images(folder: Path) -> list[list[str]]:
    import elpv_dataset

    photos = sorted((bench_data() / "clothing" / "train").glob("*/*"))
    small = [str(p) for p in photos[:: max(1, len(photos) // NUM)][:NUM]]
    cells = sorted(Path(elpv_dataset.__file__).parent.rglob("*.png"))
    gray = [str(p) for p in cells[:: max(1, len(cells) // NUM)][:NUM]]
    rng, phone = np.random.default_rng(0), []
    (folder / "phone").mkdir()
    noise = rng.normal(0.0, 5.0, (1, 3000, 3000, 1)).astype(np.float32)[0]
    for i, file in enumerate(small):
        with Image.open(io.BytesIO(Path(file).read_bytes())) as image:
            scale = 3000 / min(image.size)
            size = (min(4000, round(image.width * scale)), min(4000, round(image.height * scale)))
            large = np.asarray(image.convert("RGB").resize(size, Image.Resampling.BICUBIC)).astype(np.float32)
        tiled = np.resize(noise, (*large.shape[:2], 1)) if max(large.shape) > 3000 else noise
        target = folder / "phone" / f"{i:03d}.jpg"
        Image.fromarray(np.clip(large + tiled, 0, 255).astype(np.uint8)).save(target, quality=90)
        phone.append(str(target))
    return [small, _some(bench_data() / "covid_xray" / "train", NUM), gray, phone]


def _some(folder: Path, num: int) -> list[str]:
    """Return `num` files of class folders, evenly spaced."""
    files = sorted(p for p in folder.glob("*/*") if p.suffix.lower() in (".jpg", ".jpeg", ".png"))
    return [str(files[i]) for i in np.linspace(0, len(files) - 1, min(num, len(files))).astype(int)]


def _training_loss(figures: Figures) -> None:
    """Measure log-loss on plain images after training on views of files and of cached images."""
    import torch

    from headstart.backbones import load_backbone, pooled_outputs
    from headstart.features.decoded_cache import DecodedImages
    from headstart.features.view_activations import ViewSet
    from headstart.preprocessing.augmentation import make_view, parse_augment, view_rng
    from headstart.preprocessing.image_spec import normalize
    from headstart.probe.probe import fit_probe
    from headstart.training.plan import default_augment

    files = _some(bench_data() / "covid_xray" / "train", 240)
    names = [Path(f).parent.name for f in files]
    ids = np.unique(names, return_inverse=True)[1].astype(np.int64)
    data = [Path(f).read_bytes() for f in files]
    digests = [hashlib.sha256(d).hexdigest() for d in data]
    backbone, augment = load_backbone(), parse_augment(default_augment("full"))
    spec = backbone.card.image_spec(224)
    cached = DecodedImages(ViewSet(files, digests, files, augment), spec)

    def from_file(sample: int, view: int) -> Any:
        rng = view_rng(bytes.fromhex(digests[sample]), view, 0) if view else None
        return normalize(make_view(data[sample], spec, augment, rng), spec)

    network = pooled_outputs(backbone, ["embedding"])

    def embed(make: Make, view: int) -> Any:
        parts = []
        for start in range(0, len(files), BATCH):
            pixels = np.stack([make(i, view) for i in range(start, min(start + BATCH, len(files)))])
            with torch.no_grad():
                parts.append(network(torch.from_numpy(pixels))[0].numpy())
        return np.concatenate(parts)

    half = np.arange(len(files)) % 2
    plain = embed(from_file, 0)
    losses = {}
    for name, make in (("file", from_file), ("cached", cached.make)):
        views = [embed(make, view) for view in (1, 2)]
        loss = np.empty(len(files))
        for part in (0, 1):
            train, test = half != part, half == part
            features = np.concatenate([v[train] for v in views])
            head = fit_probe({"embedding": features}, np.tile(ids[train], 2), int(ids.max()) + 1).head
            loss[test] = _log_loss(head.logits({"embedding": plain[test]}), ids[test])
        losses[name] = loss
    _paired(figures, f"probe on views of {len(files)} X-rays", losses)
    val = np.arange(len(files)) % 3 == 0
    losses = {name: np.zeros(0) for name in losses}
    for seed in range(int(os.environ.get("HEADSTART_BENCH_SEEDS", "1"))):
        for name, make in (("file", from_file), ("cached", cached.make)):
            logits = _tune(make, ids, np.flatnonzero(~val), np.flatnonzero(val), seed)
            losses[name] = np.concatenate([losses[name], _log_loss(logits, ids[val])])
    _paired(figures, f"whole network, 3 epochs on {int((~val).sum())} X-rays", losses)


def _tune(make: Make, ids: Any, train: Any, val: Any, seed: int) -> Any:
    """Return logits after three epochs of fine-tuning the whole network."""
    import torch

    from headstart.backbones import load_backbone, pooled_outputs
    from headstart.backbones.suffix_parts import pooled_suffix
    from headstart.probe.probe import fit_probe
    from headstart.training.batch_sources import PixelSource
    from headstart.training.loop import Training, predict_logits
    from headstart.training.network import FinetunedNetwork, HeadModule
    from headstart.training.plan import default_plan
    from headstart.utils.system import available_cores

    backbone = load_backbone()
    network, classes = backbone.network, int(ids.max()) + 1
    with torch.no_grad():
        pixels = torch.from_numpy(np.stack([make(int(i), 0) for i in train]))
        features = pooled_outputs(backbone, ["embedding"])(pixels)[0].numpy()
    head = fit_probe({"embedding": features}, ids[train], classes).head
    suffix = pooled_suffix(network, "stem", ["embedding"]).to(memory_format=torch.channels_last)
    net = FinetunedNetwork(
        HeadModule(head), suffix, ("embedding",), owner=backbone.module, stage_of=network.map.stage_of,
        trainable=range(len(network.names)),
    )  # fmt: skip
    plan = default_plan("full", "stem", len(train), classes, seed=seed).with_(epochs=3, num_views=3)
    source = PixelSource(make, available_cores())
    for _ in Training(net, source, ids, plan, train).run():
        pass
    logits = predict_logits(net, source, val)
    source.close()
    return logits


def _paired(figures: Figures, what: str, losses: dict[str, Any]) -> None:
    for name, loss in losses.items():
        figures.add(f"{what}: log-loss, views of the {name}", float(loss.mean()))
    worse = losses["cached"] - losses["file"]
    error = float(worse.std() / np.sqrt(len(worse)))
    value = float(worse.mean())
    figures.add(
        f"{what}: log-loss, cached - file", value, "<= 2 errors", is_met=value <= 2 * error, note=f"+- {error:.2g}"
    )


def _log_loss(logits: Any, truth: Any) -> Any:
    z = logits - logits.max(axis=1, keepdims=True)
    return np.log(np.exp(z).sum(axis=1)) - z[np.arange(len(truth)), truth]


if __name__ == "__main__":
    main()
