"""Test detection of edited duplicates, few false pairs, and almost linear cost."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from scenes import changed, encode, samples_of, scan_of, scene

from headstart.data.image_scan import ImageInfo, ScanResult
from headstart.preprocessing.exif import Exif
from headstart.quality import duplicate_candidates
from headstart.quality.duplicate_candidates import Candidates, find_candidates, nearest
from headstart.quality.duplicates import Pair, components, find_duplicates
from headstart.quality.image_registration import align, correlate_details, details

KINDS = ("bytes", "pixels", "jpeg", "smaller", "larger", "watermark", "crop", "flip", "bright", "dark")
PER_KIND = 10
NUM_ALONE = 60


@dataclass
class Planted:
    """Scenes, some with one edited duplicate, and the detected pairs."""

    scan: ScanResult
    kind_of: dict[frozenset[int], str]
    num_scenes: int
    exact: list[Pair]
    near: list[Pair]


@pytest.fixture(scope="module")
def planted() -> Planted:
    rng = np.random.default_rng(4)
    count = NUM_ALONE + PER_KIND * len(KINDS)
    images = [scene(seed) for seed in range(count)]
    files = [encode(image) for image in images]
    kind_of: dict[frozenset[int], str] = {}
    for k in range(PER_KIND * len(KINDS)):
        kind = KINDS[k % len(KINDS)]
        data = files[k]
        if kind == "pixels":
            data = data[:2] + b"\xff\xfe\x00\x07hello" + data[2:]  # a comment: other bytes, the same pixels
        elif kind != "bytes":
            data = changed(images[k], kind, rng)
        kind_of[frozenset((k, len(files)))] = kind
        files.append(data)
    scan = scan_of(samples_of([str(i) for i in range(len(files))]), files)
    exact, near, _ = find_duplicates(scan, num_threads=1)
    return Planted(scan, kind_of, count, exact, near)


def subset(scan: ScanResult, rows: NDArray[np.int64] | list[int]) -> ScanResult:
    return ScanResult(
        tuple(scan.info[i] for i in rows),
        {},
        scan.thumbnails[rows],
        scan.colors[rows],
        scan.histograms[rows],
        scan.borders[rows],
    )


@pytest.mark.parametrize(
    ("kind", "least"),
    [
        ("bytes", 1.0),
        ("pixels", 1.0),
        ("jpeg", 0.95),
        ("smaller", 0.95),
        ("larger", 0.95),
        ("watermark", 0.9),
        ("crop", 0.8),
        ("flip", 0.9),
        ("bright", 0.9),
        ("dark", 0.9),
    ],
)
def test_planted_duplicates_are_detected(planted: Planted, kind: str, least: float) -> None:
    reported = {frozenset((p.first, p.second)) for p in (*planted.exact, *planted.near)}
    hits = [pair in reported for pair, k in planted.kind_of.items() if k == kind]
    assert len(hits) == PER_KIND
    assert np.mean(hits) >= least


def test_only_planted_pairs_are_reported(planted: Planted) -> None:
    for pair in (*planted.exact, *planted.near):
        assert frozenset((pair.first, pair.second)) in planted.kind_of, pair
        assert pair.first < pair.second


def test_pairs_have_their_kind(planted: Planted) -> None:
    kinds = {frozenset((p.first, p.second)): p for p in (*planted.exact, *planted.near)}
    for pair, kind in planted.kind_of.items():
        match = kinds.get(pair)
        if match is None:
            continue
        if kind in ("bytes", "pixels"):
            assert (match.kind, match.similarity) == (kind, 1.0)
        elif kind == "flip":
            assert match.kind == "flipped"
        elif kind == "crop":
            assert match.kind in ("cropped", "near")
        else:
            assert match.kind == "near"
        assert 0.9 < match.similarity <= 1.0
    assert all(p.kind in ("bytes", "pixels") for p in planted.exact)
    assert all(p.kind in ("near", "flipped", "cropped") for p in planted.near)


def test_no_pair_among_different_images(planted: Planted) -> None:
    exact, near, _ = find_duplicates(subset(planted.scan, list(range(planted.num_scenes))), num_threads=1)
    assert (exact, near) == ([], [])


def test_similar_studio_images_are_not_duplicates() -> None:
    """Same backdrop and position with different objects, as in product photographs."""
    rng = np.random.default_rng(0)
    files = []
    backdrop = Image.fromarray(np.linspace(150, 220, 150).astype(np.uint8)[:, None].repeat(200, 1)).convert("RGB")
    for seed in range(50):
        image = backdrop.copy()
        x, y = (int(v) for v in rng.integers(-4, 5, 2))
        image.paste(scene(900 + seed, (110, 90)), (45 + x, 30 + y))
        files.append(encode(image))
    exact, near, _ = find_duplicates(scan_of(samples_of([str(i) for i in range(50)]), files), num_threads=1)
    assert (exact, near) == ([], [])


def test_threshold_rises_with_similarity_of_different_images() -> None:
    """Cells of one wafer, frames of one camera: 99 % of details agree without being duplicates."""
    images = []
    for i in range(80):
        shared = np.asarray(scene(5000 + i // 4)).astype(np.float64)
        own = np.asarray(scene(1000 + i)).astype(np.float64) - 128
        images.append(Image.fromarray((0.8 * shared + 25 + 0.1 * own).clip(0, 255).astype(np.uint8)))
    files = [encode(image, quality=95) for image in images]
    files += [encode(image, quality=75) for image in images[:32:4]]
    scan = scan_of(samples_of([str(i) for i in range(88)]), files)
    candidates = find_candidates(scan.thumbnails, None)
    scores, _ = duplicate_candidates.compare_candidates(scan.thumbnails, candidates, 1)
    assert (scores > 1.9).sum() > 60  # a fixed threshold would accept these
    _, near, _ = find_duplicates(scan, num_threads=1)
    assert {(p.first, p.second) for p in near} == {(4 * k, 80 + k) for k in range(8)}


@pytest.mark.parametrize("quality", [30, 45, 60, 75, 95])
def test_every_quality_of_re_encoding(quality: int) -> None:
    files = [encode(scene(s), quality=92) for s in range(300, 330)]
    files += [encode(scene(s), quality=quality) for s in range(300, 310)]
    _, near, _ = find_duplicates(scan_of(samples_of([str(i) for i in range(40)]), files), num_threads=1)
    assert {(p.first, p.second) for p in near} == {(i, 30 + i) for i in range(10)}


def test_caption_does_not_hide_duplicate() -> None:
    """A bar with a title or a date leaves the other half of the image unchanged."""
    images = [scene(s) for s in range(600, 660)]
    files = [encode(image) for image in images]
    for k, image in enumerate(images[:12]):
        width, height = image.size
        bar = (0, 0, width, height * 15 // 100) if k % 2 else (0, height * 85 // 100, width, height)
        image.paste((255, 255, 255) if k % 3 else (0, 0, 0), bar)
        files.append(encode(image, quality=85))
    _, near, _ = find_duplicates(scan_of(samples_of([str(i) for i in range(72)]), files), num_threads=1)
    reported = {(p.first, p.second) for p in near}
    assert reported <= {(k, 60 + k) for k in range(12)}
    assert len(reported) >= 11


def test_embeddings_propose_but_pixels_decide() -> None:
    """Equal embeddings do not make different images duplicates."""
    files = [encode(scene(s)) for s in range(400, 440)]
    scan = scan_of(samples_of([str(i) for i in range(40)]), files)
    same = np.ones((40, 16), dtype=np.float32) + 1e-3 * np.random.default_rng(0).normal(size=(40, 16)).astype(
        np.float32
    )
    assert find_duplicates(scan, embeddings=same, num_threads=1)[:2] == ([], [])


def test_missing_embedding_rows_are_accepted() -> None:
    files = [encode(scene(s)) for s in (1, 2, 1, 3)]
    files[2] = encode(scene(1), quality=60)
    scan = scan_of(samples_of(list("abcd")), files)
    embeddings = np.random.default_rng(0).normal(size=(4, 8)).astype(np.float32)
    embeddings[3] = np.nan
    _, near, _ = find_duplicates(scan, embeddings=embeddings, num_threads=1)
    assert [(p.first, p.second) for p in near] == [(0, 2)]


def test_uniform_images_are_not_near_duplicates() -> None:
    files = [encode(Image.new("RGB", (80, 60), (i, 2 * i, 3 * i)), "PNG") for i in range(10, 40)]
    exact, near, _ = find_duplicates(scan_of(samples_of([str(i) for i in range(30)]), files), num_threads=1)
    assert (exact, near) == ([], [])


def test_equal_pixels_under_other_bytes_and_modes(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Thumbnail digests only propose; pixels are compared one by one."""
    image = scene(5).convert("L")
    nearly = np.array(image)
    nearly[3, 3] ^= 1  # one bit of one pixel
    files = [encode(image, "PNG"), encode(image.convert("RGB"), "PNG"), encode(Image.fromarray(nearly), "PNG")]
    scan = scan_of(samples_of(list("abc")), files)
    compared: list[tuple[int, int]] = []

    def same(a: int, b: int) -> bool:
        compared.append((a, b))
        return False

    exact, _, _ = find_duplicates(scan, num_threads=1)
    assert (0, 1, "pixels") in {(p.first, p.second, p.kind) for p in exact}
    exact, _, _ = find_duplicates(scan, same_pixels=same, num_threads=1)
    assert exact == []
    assert (0, 1) in compared


def test_large_sets_of_one_file_do_not_make_all_pairs() -> None:
    one = encode(scene(1))
    files = [one] * 300 + [encode(scene(1), quality=50)]
    scan = scan_of(samples_of([str(i) for i in range(301)]), files)
    exact, near, _ = find_duplicates(scan, num_threads=1)
    assert len(exact) == 299
    assert len(near) < 20
    groups = components(301, [(p.first, p.second) for p in (*exact, *near)])
    assert set(groups.tolist()) == {0}


def test_near_duplicate_extends_to_equal_images() -> None:
    """Both equal images are reported as pairs, so that leaks and label conflicts cover either of them."""
    files = [encode(scene(1)), encode(scene(2)), encode(scene(1)), encode(scene(1), quality=50), encode(scene(3))]
    exact, near, _ = find_duplicates(scan_of(samples_of(list("abcde")), files), num_threads=1)
    assert [(p.first, p.second) for p in exact] == [(0, 2)]
    assert {(p.first, p.second) for p in near} == {(0, 3), (2, 3)}


def test_one_and_no_image() -> None:
    assert find_duplicates(scan_of(samples_of([]), []), num_threads=1)[:2] == ([], [])
    assert find_duplicates(scan_of(samples_of(["a"]), [encode(scene(1))]), num_threads=1)[:2] == ([], [])


def test_two_images_suffice() -> None:
    files = [encode(scene(1)), encode(scene(1), quality=50)]
    _, near, _ = find_duplicates(scan_of(samples_of(["a", "b"]), files), num_threads=1)
    assert [(p.first, p.second, p.kind) for p in near] == [(0, 1, "near")]


def test_result_depends_on_neither_threads_nor_order(planted: Planted) -> None:
    again = find_duplicates(planted.scan, num_threads=3)
    assert (again[0], again[1]) == (planted.exact, planted.near)
    order = np.random.default_rng(0).permutation(len(planted.scan.info))
    exact, near, _ = find_duplicates(subset(planted.scan, order), num_threads=1)
    turned = {frozenset((int(order[p.first]), int(order[p.second]))) for p in (*exact, *near)}
    plain = {frozenset((p.first, p.second)) for p in (*planted.exact, *planted.near)}
    assert len(turned ^ plain) <= 1  # ties between candidates may differ


def test_components() -> None:
    assert components(6, [(4, 5), (1, 4), (2, 3)]).tolist() == [0, 1, 2, 2, 1, 1]
    assert components(3, []).tolist() == [0, 1, 2]
    chain = [(i, i + 1) for i in range(20_000)]
    assert set(components(20_001, chain[::-1]).tolist()) == {0}


def test_nearest_matches_brute_force() -> None:
    rng = np.random.default_rng(1)
    count, duplicates = 21_000, 300
    rows = rng.normal(size=(count, 24)).astype(np.float32)
    rows[-duplicates:] = rows[:duplicates] + 0.05 * rng.normal(size=(duplicates, 24))
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    owner = np.arange(count)
    query, entry, cosine = nearest(rows, owner, rows, owner, count=2, least=0.9)
    reported = set(zip(query.tolist(), entry.tolist(), strict=True))
    hits = np.mean([(i, count - duplicates + i) in reported for i in range(duplicates)])
    assert hits >= 0.97
    assert (query != entry).all()
    np.testing.assert_allclose(cosine, (rows[query] * rows[entry]).sum(1), atol=1e-5)
    assert np.bincount(query).max() <= 2


def counted(monkeypatch: pytest.MonkeyPatch, count: int) -> int:
    """Return how many cosines `nearest` computes among so many vectors."""
    compared = 0
    best: Callable[..., tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]] = duplicate_candidates._best

    def count_them(queries: object, owner: object, rows: NDArray[np.int64], entries: object, *rest: object) -> object:
        nonlocal compared
        compared += len(rows) * len(rest[1])  # type: ignore[arg-type]
        return best(queries, owner, rows, entries, *rest)

    rows = np.random.default_rng(2).normal(size=(count, 8)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    with monkeypatch.context() as patch:
        patch.setattr(duplicate_candidates, "_best", count_them)
        nearest(rows, np.arange(count), rows, np.arange(count), count=3, least=0.99)
    return compared


def test_number_of_compared_vectors_is_subquadratic(monkeypatch: pytest.MonkeyPatch) -> None:
    """Counted, not timed: about N to the power of 1.5, where all pairs would be N squared."""
    few, many = counted(monkeypatch, 20_500), counted(monkeypatch, 41_000)
    assert many < 0.15 * 41_000**2
    assert many / few < 3.4  # 2 ** 1.5 is 2.8, all pairs would be 4


def test_number_of_registered_pairs_is_linear_in_images(monkeypatch: pytest.MonkeyPatch) -> None:
    counts = []
    for num in (200, 400, 800):
        rng = np.random.default_rng(num)
        families = rng.integers(0, 256, (num // 10, 12, 12)).repeat(10, 0)  # ten similar ones
        coarse = 0.7 * families + 0.3 * rng.integers(0, 256, (num, 12, 12))
        thumbnails = coarse.astype(np.uint8).repeat(8, 1).repeat(8, 2)
        candidates = find_candidates(thumbnails, None)
        compared = 0

        def count_them(first: object, second: object) -> NDArray[np.float32]:
            nonlocal compared
            compared += len(first.blocks)  # type: ignore[attr-defined]
            return correlate_details(first, second)  # type: ignore[arg-type]

        with monkeypatch.context() as patch:
            patch.setattr(duplicate_candidates, "correlate_details", count_them)
            duplicate_candidates.compare_candidates(thumbnails, candidates, 1)
        counts.append((len(candidates.part), compared))
    for num, (pairs, compared) in zip((200, 400, 800), counts, strict=True):
        assert num <= pairs <= 12 * num  # few partners per image
        assert pairs <= compared <= 6 * pairs  # some are compared again after alignment
    assert counts[2][1] < 2.6 * counts[1][1] < 2.6 * 2.6 * counts[0][1]


def test_agreement_of_details() -> None:
    """Near zero for unrelated images, large for a brighter, watermarked duplicate."""
    images = np.stack([np.asarray(scene(s).convert("L").resize((96, 96), Image.Resampling.BICUBIC)) for s in range(8)])
    copy = np.clip(images * 0.8 + 10, 0, 255).astype(np.uint8)
    copy[:, 60:66, 10:60] = 255
    known = details(images)
    assert correlate_details(known, details(copy)).min() > 1.8
    assert correlate_details(known, known.take(np.roll(np.arange(8), 1))).max() < 1.0


def test_alignment_locates_crop() -> None:
    image = scene(3, (400, 300))
    whole = np.asarray(image.convert("L").resize((96, 96), Image.Resampling.BICUBIC))[None]
    left, top, right, bottom = 20, 12, 380, 288
    part = np.asarray(image.crop((left, top, right, bottom)).convert("L").resize((96, 96), Image.Resampling.BICUBIC))[
        None
    ]
    truth = np.array([top / 300, left / 400, (bottom - top) / 300, (right - left) / 400])
    proposal = np.array([[0.02, 0.04, 0.94, 0.92]])
    rough, _ = align(whole, part, align(whole, part, proposal, 0)[0], 1)
    fine, _ = align(whole, part, rough, 2)
    assert np.abs(fine - truth).max() < 0.006
    assert (
        correlate_details(details(whole, fine), details(part))[0]
        > correlate_details(details(whole, proposal), details(part))[0] + 0.3
    )


def test_overexposed_areas_do_not_hide_duplicates() -> None:
    files = [encode(scene(s)) for s in range(500, 540)]
    for s in range(500, 508):
        bright = np.clip(np.asarray(scene(s)).astype(np.float64) * 1.25, 0, 255).astype(np.uint8)
        assert (bright == 255).mean() > 0.03
        files.append(encode(Image.fromarray(bright)))
    _, near, _ = find_duplicates(scan_of(samples_of([str(i) for i in range(48)]), files), num_threads=1)
    reported = {(p.first, p.second) for p in near}
    assert reported <= {(i, 40 + i) for i in range(8)}
    assert len(reported) >= 6


def test_no_candidates() -> None:
    none = Candidates(*(np.empty(0, dtype=np.int64) for _ in range(3)), np.empty(0, dtype=bool))
    scores, is_cropped = duplicate_candidates.compare_candidates(np.zeros((2, 96, 96), np.uint8), none, 1)
    assert (len(scores), len(is_cropped)) == (0, 0)


def test_digests_suffice_for_exact_pairs() -> None:
    """Three files with the same bytes are three pairs; an unreadable image is in none."""

    def info(digest: str, key: str) -> ImageInfo:
        notes = (("one-color", "one color"),)
        return ImageInfo(digest, key, 1, "PNG", "L", (9, 9), None, Exif(), 1.0, None, notes)

    rows = (info("a", "1"), None, info("a", "1"), info("a", "1"), info("b", "1"), info("c", "2"))
    empty = np.zeros((6, 96, 96), dtype=np.uint8)
    exact, near, _ = find_duplicates(ScanResult(rows, {}, empty, empty, empty, empty))
    assert near == []
    assert [(p.first, p.second, p.kind) for p in exact] == [
        (0, 2, "bytes"), (0, 3, "bytes"), (0, 4, "pixels"), (2, 3, "bytes"),
    ]  # fmt: skip


def drawing(seed: int) -> Image.Image:
    """Return a line drawing; many are similar and differ only in thin strokes."""
    rng = np.random.default_rng([seed, 70])
    angles = np.linspace(0, 2 * np.pi, 60) + rng.uniform(0, 2 * np.pi)
    corners = (60, 3, 4)[seed % 3]  # an ellipse, a triangle, a quadrangle
    radius = np.cos(np.pi / corners) / np.cos((angles % (2 * np.pi / corners)) - np.pi / corners)
    radius = radius * (1 + np.convolve(rng.normal(0, 0.08, 64), np.ones(5) / 5, "valid"))
    x = 35 + rng.normal(0, 2) + rng.uniform(20, 27) * radius * np.cos(angles)
    y = 35 + rng.normal(0, 2) + rng.uniform(20, 27) * radius * np.sin(angles)
    large = Image.new("L", (280, 280), 255)
    ImageDraw.Draw(large).line([(4 * a, 4 * b) for a, b in zip(x, y, strict=True)], fill=0, width=8)
    return large.resize((70, 70), Image.Resampling.BOX)


def test_crops_of_similar_drawings_are_registered() -> None:
    """Before registration their details agree no better than those of any two drawings."""
    count, cropped = 600, 40
    rng = np.random.default_rng(5)
    files = [encode(drawing(s)) for s in range(count)]
    for s in range(cropped):
        left, top, right, bottom = rng.integers(0, 3, 4)
        files.append(encode(drawing(7 * s).crop((left, top, 70 - right, 70 - bottom - 1))))
    scan = scan_of(samples_of([str(i) for i in range(len(files))]), files)
    candidates = find_candidates(scan.thumbnails, None)
    scores, _ = duplicate_candidates.compare_candidates(scan.thumbnails, candidates, 1)
    best: dict[frozenset[int], float] = {}
    for a, b, score in zip(candidates.part.tolist(), candidates.whole.tolist(), scores.tolist(), strict=True):
        best[frozenset((a, b))] = max(best.get(frozenset((a, b)), 0.0), score)
    true = [frozenset((7 * s, count + s)) for s in range(cropped)]
    agreed = np.array([best[pair] for pair in true if pair in best])
    assert len(agreed) >= 30  # the others were no candidates
    assert np.mean(agreed > 2.0) > 0.75
