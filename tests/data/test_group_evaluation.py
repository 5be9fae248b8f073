"""Test inferred groups: names propose, images decide, and the effect on the score is measured."""

from __future__ import annotations

from datetime import datetime, timedelta

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageOps
from scenes import SIZE, encode, samples_of, scan_of, scene

from headstart.data.grouping import group_ids
from headstart.data.image_scan import ScanResult, scan_images
from headstart.data.sources import read
from headstart.quality.duplicates import Pair
from headstart.quality.group_evaluation import evaluate_groupings
from headstart.quality.inspection import apply_report, inspect_dataset
from headstart.types.codes import FindingKind, Severity
from headstart.types.records import GroupPattern, Samples

NUM_ORIGINALS, NUM_VARIANTS = 24, 4


def variant(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """As stored by augmentation scripts: rotated, cropped, perhaps flipped."""
    width, height = SIZE
    turned = image.rotate(float(rng.uniform(-30, 30)), resample=Image.Resampling.BICUBIC)
    share = rng.uniform(0.65, 0.95)
    w, h = width * share, height * share
    x, y = rng.uniform(0, width - w), rng.uniform(0, height - h)
    part = turned.crop((round(x), round(y), round(x + w), round(y + h))).resize(SIZE)
    return ImageOps.mirror(part) if rng.random() < 0.5 else part


def variants(is_shuffled: bool) -> tuple[Samples, ScanResult]:
    """Variants of few originals, named `_<k>_<random>.jpg`; if shuffled, k is unrelated to the original."""
    rng = np.random.default_rng(8)
    names, labels, files = [], [], []
    for c, label in enumerate(("cat", "dog")):
        half = NUM_ORIGINALS // 2
        numbers = np.repeat(np.arange(half) + c * half, NUM_VARIANTS)
        stated_numbers = rng.permutation(numbers) if is_shuffled else numbers
        for k, number in zip(numbers, stated_numbers, strict=True):
            names.append(f"{label}/_{number}_{rng.integers(100_000)}.jpg")
            labels.append(label)
            files.append(encode(variant(scene(int(k) + 2000), rng), quality=85))
    samples = samples_of(names, labels)
    return samples, scan_of(samples, files)


@pytest.fixture(scope="module")
def related() -> tuple[Samples, ScanResult]:
    return variants(is_shuffled=False)


@pytest.fixture(scope="module")
def shuffled() -> tuple[Samples, ScanResult]:
    return variants(is_shuffled=True)


def evaluate(samples: Samples, scan: ScanResult, **options: object) -> list[tuple[NDArray[np.int64], GroupPattern]]:
    return evaluate_groupings(samples, scan, np.ones(len(samples), dtype=bool), **options)  # type: ignore[arg-type]


def flattering(groups: NDArray[np.int64] | None) -> float:
    """Return a score that is high for independent images and lower with fewer groups."""
    return 0.95 if groups is None else 0.95 - 0.3 * (1 - len(np.unique(groups)) / len(groups))


def test_variants_of_originals_are_accepted_and_used(related: tuple[Samples, ScanResult]) -> None:
    samples, scan = related
    (groups, best), *_ = evaluate(samples, scan, score=flattering)
    assert (best.accepted, best.is_used, best.num_groups) == (True, True, NUM_ORIGINALS)
    assert best.p_value <= 0.01
    assert best.nearness > 0.03
    truth = [s.name.split("_")[1] for s in samples]
    assert len({(g, t) for g, t in zip(groups.tolist(), truth, strict=True)}) == NUM_ORIGINALS


def test_permuted_names_are_rejected(shuffled: tuple[Samples, ScanResult]) -> None:
    samples, scan = shuffled
    patterns = evaluate(samples, scan, score=flattering)
    assert [p.num_groups for _, p in patterns] == [NUM_ORIGINALS]  # a question
    assert not any(p.accepted or p.is_used for _, p in patterns)
    assert patterns[0][1].p_value > 0.05


def test_rejected_proposal_is_not_used(shuffled: tuple[Samples, ScanResult]) -> None:
    samples, scan = shuffled
    report = inspect_dataset(samples, scan=scan, score=flattering, num_threads=1)
    applied = apply_report(samples, report)
    duplicates = sum(1 for _ in (*report.duplicates, *report.near_duplicates))
    assert applied.groups is None or len(np.unique(applied.groups)) >= len(samples) - duplicates
    assert next(d for d in applied.decisions if d.setting == "group_from").value is None


def test_few_similar_images_are_not_accepted() -> None:
    """Of thirty small sets of unrelated images many are similar by chance; almost none may be accepted."""
    names = [f"{'ab'[i % 2]}/{i // 4}_{i}.jpg" for i in range(16)]
    samples = samples_of(names, [n[0] for n in names])
    scan = scan_of(samples, [encode(scene(8000 + i, (40, 30))) for i in range(16)])
    accepted, near = 0, 0
    for seed in range(30):
        rng = np.random.default_rng(seed)
        rows = [a[rng.permutation(16)] for a in (scan.thumbnails, scan.colors, scan.histograms)]
        mixed = ScanResult(scan.info, {}, *rows, scan.borders)
        patterns = evaluate(samples, mixed, embeddings=rng.normal(size=(16, 6)).astype(np.float32))
        accepted += any(p.accepted for _, p in patterns)
        near += any(p.nearness >= 0.03 for _, p in patterns)
    assert near >= 10
    assert accepted <= 3


def test_embeddings_alone_can_support_a_proposal(shuffled: tuple[Samples, ScanResult]) -> None:
    """Backbone features may show groups that thumbnails do not."""
    samples, scan = shuffled
    stated_numbers = [int(s.name.split("_")[1]) for s in samples]
    embeddings = np.random.default_rng(0).normal(size=(NUM_ORIGINALS, 32))[stated_numbers].astype(np.float32)
    embeddings += 0.3 * np.random.default_rng(1).normal(size=embeddings.shape).astype(np.float32)
    embeddings[3] = np.nan  # one that could not be read
    (_, best), *_ = evaluate(samples, scan, embeddings=embeddings)
    assert best.accepted
    assert best.is_used


def test_effect_uses_given_score(related: tuple[Samples, ScanResult]) -> None:
    samples, scan = related
    requested: list[NDArray[np.int64] | None] = []

    def score(groups: NDArray[np.int64] | None) -> float:
        requested.append(groups)
        return 0.91 if groups is None else 0.78

    (_, best), *_ = evaluate(samples, scan, score=score)
    assert (best.accuracy_independent, best.accuracy_grouped) == (0.91, 0.78)
    assert requested[0] is None
    assert any(g is not None and len(np.unique(g)) == NUM_ORIGINALS for g in requested)


def test_duplicates_stay_together_while_effect_is_measured(related: tuple[Samples, ScanResult]) -> None:
    """Otherwise the score for independent images would count duplicates as new images."""
    samples, scan = related
    duplicates = [Pair(7, 90, "near", 1.0)]  # of other originals
    requested: list[NDArray[np.int64] | None] = []

    def score(groups: NDArray[np.int64] | None) -> float:
        requested.append(groups)
        return 0.5

    evaluate(samples, scan, score=score, duplicates=duplicates)
    for groups in requested:
        assert groups is not None
        assert groups[7] == groups[90]
    assert min(len(np.unique(g)) for g in requested if g is not None) == NUM_ORIGINALS - 1


def test_no_effect_without_score(related: tuple[Samples, ScanResult]) -> None:
    for score in (None, lambda groups: float("nan")):
        (_, best), *_ = evaluate(*related, score=score)
        assert (best.accuracy_independent, best.accuracy_grouped) == (None, None)
        assert best.is_used


def test_supported_grouping_with_largest_score_drop_is_used() -> None:
    """`patient_visit`: visits are similar, and so are all visits of a patient; the patient inflates the score most."""
    rng = np.random.default_rng(3)
    names, labels, files = [], [], []
    for patient in range(12):
        label = "ab"[patient % 2]
        own = np.asarray(scene(3000 + patient)).astype(np.float64)
        for visit in range(3):
            day = 0.65 * own + 0.35 * np.asarray(scene(4000 + 10 * patient + visit))
            for shot in range(3):
                image = Image.fromarray(
                    (0.8 * day + 0.2 * np.asarray(scene(int(rng.integers(1 << 30))))).astype(np.uint8)
                )
                names.append(f"{label}/p{patient:02}_v{visit}_{shot}.jpg")
                labels.append(label)
                files.append(encode(image))
    samples = samples_of(names, labels)
    scan = scan_of(samples, files)
    patterns = evaluate(samples, scan, score=flattering)
    sizes = {p.num_groups: p for _, p in patterns}
    assert sizes[12].accepted  # patients
    assert sizes[36].accepted  # patient and visit together
    assert [p.num_groups for _, p in patterns if p.is_used] == [12]
    assert not any(p.accepted for _, p in patterns if p.num_groups == 3)  # the number of the visit alone
    requested, _ = group_ids(samples, next(p.pattern for _, p in patterns if p.is_used))
    assert requested is not None
    assert len(np.unique(requested)) == 12


def test_frames_of_videos() -> None:
    rng = np.random.default_rng(4)
    names, labels, files = [], [], []
    for video in range(10):
        label = "ab"[video % 2]
        place = np.asarray(scene(5000 + video))
        for frame in range(6):
            moved = np.roll(place, (9 * frame, 14 * frame), (0, 1)).astype(np.float64) + rng.normal(0, 6, place.shape)
            names.append(f"{label}/video{video:02}_frame{30 * frame:04}.jpg")
            labels.append(label)
            files.append(encode(Image.fromarray(moved.clip(0, 255).astype(np.uint8))))
    samples = samples_of(names, labels)
    patterns = evaluate(samples, scan_of(samples, files), score=flattering)
    used = [p for _, p in patterns if p.is_used]
    assert [p.num_groups for p in used] == [10]
    frames = [p for _, p in patterns if "frame" in p.pattern and p.num_groups == 6]
    assert not any(p.accepted for p in frames)


def camera_time(when: datetime, camera: str = "Maker One") -> Image.Exif:
    exif = Image.Exif()
    exif[0x010F] = camera
    exif.get_ifd(0x8769)[0x9003] = when.strftime("%Y:%m:%d %H:%M:%S")
    return exif


def bursts(is_alike: bool) -> tuple[Samples, ScanResult]:
    """Ten bursts of four images, one second apart, with uninformative names."""
    rng = np.random.default_rng(5)
    start = datetime(2024, 5, 1, 9, 0, 0)
    names, labels, files = [], [], []
    for burst in range(10):
        place = np.asarray(scene(6000 + burst)).astype(np.float64)
        for shot in range(4):
            other = np.asarray(scene(int(rng.integers(1 << 30))))
            image = Image.fromarray((0.7 * place + 0.3 * other).astype(np.uint8) if is_alike else other)
            exif = camera_time(start + timedelta(minutes=3 * burst, seconds=shot))
            names.append(f"{'ab'[burst % 2]}/{rng.bytes(6).hex()}.jpg")
            labels.append("ab"[burst % 2])
            files.append(encode(image, exif=exif))
    samples = samples_of(names, labels)
    return samples, scan_of(samples, files)


def test_bursts_are_grouped_by_capture_time() -> None:
    patterns = {p.pattern: p for _, p in evaluate(*bursts(is_alike=True), score=flattering)}
    assert patterns["capture-burst"].num_groups == 10
    assert patterns["capture-burst"].accepted
    assert patterns["capture-burst"].is_used
    by_chance = {p.pattern: p for _, p in evaluate(*bursts(is_alike=False), score=flattering)}
    assert by_chance["capture-burst"].num_groups == 10
    assert not by_chance["capture-burst"].accepted


def test_capture_time_can_be_requested(tmp_path_factory: pytest.TempPathFactory) -> None:
    root = tmp_path_factory.mktemp("times")
    start = datetime(2024, 5, 1, 9, 0, 0)
    for i in range(6):
        exif = camera_time(start + timedelta(seconds=8 * i + 100 * (i >= 3)))
        path = root / "ab"[i % 2] / f"{i}.jpg"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(encode(scene(i, (60, 40)), exif=exif))
    (root / "a" / "no_time.jpg").write_bytes(encode(scene(9, (60, 40))))
    (root / "b" / "broken.jpg").write_bytes(b"nonsense")
    samples = read(root)
    ids, _ = group_ids(samples, "capture-burst")
    assert ids is not None
    by_name = {s.name.rpartition("/")[2][0]: int(g) for s, g in zip(samples, ids, strict=True)}
    assert by_name["0"] == by_name["1"] == by_name["2"] != by_name["3"]
    assert by_name["3"] == by_name["4"] == by_name["5"]
    assert len({by_name[k] for k in "03nb"}) == 4
    assert scan_images(samples, num_threads=1).info[0] is not None


def test_names_alone_are_no_leak(shuffled: tuple[Samples, ScanResult]) -> None:
    """Both sides of a split share meaningless numbers in their names: no leak, no warning."""
    samples, _ = shuffled
    split = samples_of(
        [s.name for s in samples],
        [s.label for s in samples],
        splits=["train" if i % 3 else "test" for i in range(len(samples))],
    )
    scan = scan_of(split, [encode(scene(7000 + i)) for i in range(len(split))])  # unrelated images
    report = inspect_dataset(split, scan=scan, score=flattering, num_threads=1)
    assert report.leaks == ()
    assert FindingKind.GROUPS_ACROSS_SPLITS not in {f.kind for f in report.findings}
    assert not report.is_misleading


def test_supported_groups_across_splits_are_reported(
    related: tuple[Samples, ScanResult],
) -> None:
    samples, scan = related
    split = samples_of(
        [s.name for s in samples],
        [s.label for s in samples],
        splits=["train" if i % NUM_VARIANTS else "test" for i in range(len(samples))],
    )
    report = inspect_dataset(split, scan=scan, num_threads=1)
    (finding,) = [f for f in report.findings if f.kind is FindingKind.GROUPS_ACROSS_SPLITS]
    assert finding.severity is Severity.ERROR
    assert finding.evidence["num_groups"] == NUM_ORIGINALS
    assert finding.evidence["scored_fraction"] == 1.0
    assert report.is_misleading


def test_test_images_do_not_affect_group_tests(related: tuple[Samples, ScanResult]) -> None:
    samples, scan = related
    is_training = np.array([i % NUM_VARIANTS == 0 for i in range(len(samples))])  # one of each original
    patterns = evaluate_groupings(samples, scan, is_training)
    assert not any(p.accepted for _, p in patterns)  # the evidence is in the other images


def test_given_groups_are_used_untested(shuffled: tuple[Samples, ScanResult]) -> None:
    samples, scan = shuffled
    given = samples_of(
        [s.name for s in samples], [s.label for s in samples], groups=[f"g{i // 4}" for i in range(len(samples))]
    )
    (_, first), *_ = evaluate(given, scan, score=flattering)
    assert (first.pattern, first.is_used) == ("group", True)


def test_too_few_images_give_no_result() -> None:
    files = [encode(scene(s, (60, 40))) for s in range(3)]
    samples = samples_of(["a/1_1.jpg", "a/1_2.jpg", "b/2_1.jpg"], ["a", "a", "b"])
    assert evaluate(samples, scan_of(samples, files)) == []


def test_groups_of_unlabeled_images_are_tested_as_one_class() -> None:
    originals = [scene(300 + i // 4) for i in range(32)]
    names = [f"site{i // 4}_{i % 4}.jpg" for i in range(32)]
    files = [encode(image, quality=60 + 10 * (i % 4)) for i, image in enumerate(originals)]
    unlabeled, labeled = samples_of(names, [None] * 32), samples_of(names, ["x"] * 32)
    patterns = [evaluate_groupings(s, scan_of(s, files), np.ones(32, dtype=bool)) for s in (unlabeled, labeled)]
    assert [p for _, p in patterns[0]] == [p for _, p in patterns[1]]
    assert patterns[0]
