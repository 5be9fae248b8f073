"""Test the use of the dataset report in training: leaks, label conflicts, groups, intensity range, cache."""

from __future__ import annotations

import csv
import html
import json
import os
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from event_text import decisions_of, findings_of
from PIL import Image

import headstart
from headstart.preprocessing.image_spec import ImageSpec, read_image
from headstart.types.codes import GroupStatus
from headstart.types.records import DatasetReport
from headstart.utils.system import cache_root

Make = Callable[..., Path]


def reencode(source: Path, target: Path, quality: int = 70) -> None:
    """Write a near-duplicate: the same image, slightly smaller, at another quality."""
    image = Image.open(source)
    image.resize((image.width * 9 // 10, image.height * 9 // 10), Image.Resampling.BICUBIC).save(
        target, quality=quality
    )


def read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def split_of(run: headstart.Run) -> dict[str, str]:
    with open(run.folder / "split.csv", encoding="utf-8", newline="") as file:
        return {row["image"]: row["split"] for row in csv.DictReader(file)}


def log_of(run: headstart.Run) -> str:
    return (run.folder / "train.log").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def leaky(tmp_path_factory: pytest.TempPathFactory, make_images: Make) -> Path:
    """A test split of ten, of which three are in training too; one training image has two labels."""
    root = tmp_path_factory.mktemp("leaky")
    make_images(root / "train", {"stripes": 10, "discs": 10})
    make_images(root / "test", {"stripes": 5, "discs": 5}, first_seed=100)
    shutil.copy(root / "train/stripes/001.jpg", root / "test/stripes/000.jpg")
    reencode(root / "train/stripes/002.jpg", root / "test/stripes/003.jpg")
    reencode(root / "train/discs/004.jpg", root / "test/discs/001.jpg")
    shutil.copy(root / "train/discs/007.jpg", root / "train/stripes/other.jpg")
    return root


@pytest.fixture(scope="module")
def leaky_run(leaky: Path, tmp_path_factory: pytest.TempPathFactory) -> headstart.Run:
    return headstart.train(leaky, out=tmp_path_factory.mktemp("runs") / "leaky")


@pytest.fixture(scope="module")
def duplicated(tmp_path_factory: pytest.TempPathFactory, make_images: Make) -> Path:
    root = make_images(tmp_path_factory.mktemp("duplicated"), {"stripes": 14, "discs": 14, "checks": 14})
    for label in ("stripes", "discs", "checks"):
        for i in range(0, 8, 2):
            reencode(root / label / f"{i:03d}.jpg", root / label / f"z{i}.jpg")
        shutil.copy(root / label / "001.jpg", root / label / "y1.jpg")
    return root


@pytest.fixture(scope="module")
def variants(tmp_path_factory: pytest.TempPathFactory, make_images: Make) -> Path:
    rng = np.random.default_rng(0)
    source = make_images(tmp_path_factory.mktemp("originals"), {"stripes": 9, "discs": 9})
    root = tmp_path_factory.mktemp("variants")
    for c, label in enumerate(("stripes", "discs")):
        (root / label).mkdir()
        for k in range(9):
            tint = rng.uniform(0.35, 1.0, 3)  # different lighting identifies variants
            image = np.asarray(Image.open(source / label / f"{k:03d}.jpg"), dtype=np.float64) * tint
            for _ in range(5):
                turned = Image.fromarray(image.astype(np.uint8)).rotate(float(rng.uniform(-25, 25)))
                x, y = (int(v) for v in rng.integers(0, 16, 2))
                part = turned.crop((x, y, x + 80, y + 64)).resize((96, 80))
                part.save(root / label / f"_{9 * c + k}_{rng.integers(100_000)}.jpg", quality=90)
    return root


@pytest.fixture(scope="module")
def grouped(variants: Path, tmp_path_factory: pytest.TempPathFactory) -> headstart.Run:
    return headstart.train(variants, out=tmp_path_factory.mktemp("runs") / "grouped")


@pytest.fixture(scope="module")
def exposures(tmp_path_factory: pytest.TempPathFactory, make_images: Make) -> Path:
    root = make_images(tmp_path_factory.mktemp("exposures"), {"stripes": 32, "discs": 32, "checks": 32})
    for i, file in enumerate(sorted(root.rglob("*.jpg"))):
        level = (5 * i) % 8
        dark = np.asarray(Image.open(file), dtype=np.float64) * (0.3 + 0.1 * level)
        file.unlink()
        Image.fromarray(dark.astype(np.uint8)).save(file.with_name(f"exp{level}_num_{i:03d}.jpg"), quality=90)
    return root


@pytest.fixture(scope="module")
def exposed(exposures: Path, tmp_path_factory: pytest.TempPathFactory) -> headstart.Run:
    return headstart.train(exposures, out=tmp_path_factory.mktemp("runs") / "exposures")


class TestLeaks:
    """A user's test split with leaks: both scores are reported, the headline without leaks."""

    def test_headline_excludes_leaks(self, leaky_run: headstart.Run) -> None:
        metrics = leaky_run.metrics
        assert metrics["test"]["num_samples"] == 7
        assert metrics["test"]["protocol"] == "test_split"
        assert metrics["test"]["protocol_detail"] == {"split_source": "user"}
        assert metrics["test_including_leaks"]["num_samples"] == 10
        assert metrics["test_including_leaks"]["protocol_detail"] == {"split_source": "user", "includes_leaks": True}
        assert metrics["headline"]["num_samples"] == 7
        assert np.sum(metrics["test_including_leaks"]["confusion"]) == 10

    def test_log_reports_leaks(self, leaky_run: headstart.Run) -> None:
        (finding,) = findings_of(leaky_run.folder, "leaking_images")
        assert finding["severity"] == "error"
        assert (finding["evidence"]["count"], finding["evidence"]["split"]) == (3, "test")
        for pair in finding["evidence"]["pairs"]:
            assert all(name in log_of(leaky_run) for name in pair)

    def test_leaks_are_listed(self, leaky_run: headstart.Run) -> None:
        leaks = {frozenset((p["a"], p["b"])) for p in read_json(leaky_run.folder / "dataset_report.json")["leaks"]}
        assert leaks == {
            frozenset((f"train/{a}.jpg", f"test/{b}.jpg"))
            for a, b in (
                ("stripes/001", "stripes/000"), ("stripes/002", "stripes/003"), ("discs/004", "discs/001"),
            )
        }  # fmt: skip

    def test_report_shows_leaks(self, leaky_run: headstart.Run) -> None:
        report = read_json(leaky_run.folder / "report.json")
        duplicates = report["data"]["duplicates"]
        assert duplicates["num_leaks"] == 3 <= duplicates["num_pairs"]
        shown = {
            frozenset(report["images"][str(pair[side])]["name"] for side in ("a", "b"))
            for pair in duplicates["pairs"]
            if pair["is_leak"]
        }
        assert frozenset(("train/stripes/001.jpg", "test/stripes/000.jpg")) in shown
        assert len(shown) == 3
        assert "cannot be opened any more" not in (leaky_run.folder / "report.html").read_text(encoding="utf-8")

    def test_finetuned_model_reports_both_scores(self, leaky: Path, tmp_path: Path) -> None:
        run = headstart.train(leaky, strategy="head", epochs=1, num_views=1, out=tmp_path / "tuned")
        assert run.metrics["test"]["num_samples"] == 7
        assert run.metrics["test_including_leaks"]["num_samples"] == 10
        assert len(read_json(run.folder / "dataset_report.json")["leaks"]) == 3

    def test_split_file_has_no_leak(self, leaky_run: headstart.Run) -> None:
        split = split_of(leaky_run)
        assert {n for n, s in split.items() if s == "test"} & {"test/stripes/000.jpg", "test/discs/001.jpg"} == set()
        assert sum(s == "test" for s in split.values()) == 7

    def test_conflicting_labels_are_excluded(self, leaky_run: headstart.Run) -> None:
        assert leaky_run.metrics["cv"]["num_samples"] == 19
        split = split_of(leaky_run)
        assert "train/discs/007.jpg" not in split
        assert "train/stripes/other.jpg" not in split
        (finding,) = findings_of(leaky_run.folder, "label_conflicts")
        assert finding["evidence"]["pairs"] == [["train/discs/007.jpg", "discs", "train/stripes/other.jpg", "stripes"]]
        decision = decisions_of(leaky_run.folder)["excluded.labels"]
        assert decision["value"] == 2
        resolved = yaml.safe_load((leaky_run.folder / "config.resolved.yaml").read_text(encoding="utf-8"))
        assert resolved["excluded.labels"]["value"] == 2

    def test_fully_leaking_test_split_keeps_val(self, tmp_path: Path, make_images: Make) -> None:
        root = tmp_path / "d"
        make_images(root / "train", {"stripes": 10, "discs": 10})
        make_images(root / "val", {"stripes": 4, "discs": 4}, first_seed=50)
        for label in ("stripes", "discs"):
            (root / "test" / label).mkdir(parents=True)
            for i in range(3):
                shutil.copy(root / "train" / label / f"00{i}.jpg", root / "test" / label / f"{i}.jpg")
        run = headstart.train(root, out=tmp_path / "run")
        assert run.metrics["val"]["num_samples"] == 8
        assert run.metrics["test"] is None
        assert run.metrics["test_including_leaks"]["num_samples"] == 6
        assert run.metrics["headline"]["protocol"] in ("leave_one_out", "leave_one_group_out")
        (finding,) = findings_of(run.folder, "leaking_images")
        assert finding["evidence"]["count"] == 6
        assert " -" not in next(line for line in log_of(run).splitlines() if "leak" in line and "score" in line)


class TestCopies:
    """Duplicates always stay in the same fold."""

    @pytest.mark.parametrize("seed", [0, 1])
    def test_duplicates_share_a_fold(self, duplicated: Path, tmp_path: Path, seed: int) -> None:
        run = headstart.train(duplicated, out=tmp_path / "run", test_size=0.3, seed=seed)
        split = split_of(run)
        assert {"train", "test"} == set(split.values())
        for label in ("stripes", "discs", "checks"):
            for i in range(0, 8, 2):
                assert split[f"{label}/{i:03d}.jpg"] == split[f"{label}/z{i}.jpg"]
            assert split[f"{label}/001.jpg"] == split[f"{label}/y1.jpg"]
        assert run.metrics["num_groups"] == 42
        assert decisions_of(run.folder)["groups.duplicates"]["reason"] == "duplicates_kept_together"

    def test_duplicates_share_out_of_fold_group(self, duplicated: Path, tmp_path: Path) -> None:
        run = headstart.train(duplicated, out=tmp_path / "run")
        assert run.metrics["cv"]["protocol"] == "leave_one_group_out"
        assert run.metrics["cv"]["num_groups"] == 42

    def test_split_file_reproduces_split(self, duplicated: Path, tmp_path: Path) -> None:
        one = headstart.train(duplicated, out=tmp_path / "one", test_size=0.25, seed=5)
        two = headstart.train(duplicated, out=tmp_path / "two", split=str(one.folder / "split.csv"))
        assert split_of(one) == split_of(two)
        assert one.metrics["test"]["accuracy"] == two.metrics["test"]["accuracy"]
        assert one.metrics["test"]["confusion"] == two.metrics["test"]["confusion"]
        assert one.metrics["cv"]["confusion"] == two.metrics["cv"]["confusion"]
        assert read_json(two.folder / "dataset_report.json")["leaks"] == []


class TestHiddenGroups:
    """Variants of few originals, identified by file names only."""

    def test_groups_are_applied_and_reported(self, grouped: headstart.Run) -> None:
        assert grouped.metrics["cv"]["protocol"] == "leave_one_group_out"
        assert grouped.metrics["num_groups"] == 18
        resolved = yaml.safe_load((grouped.folder / "config.resolved.yaml").read_text(encoding="utf-8"))
        assert resolved["group_from"]["source"] == "auto"
        assert resolved["group_from"]["reason"] == "groups_supported_by_images"
        assert resolved["group_from"]["evidence"]["num_groups"] == 18
        decision = decisions_of(grouped.folder)["group_from"]
        assert decision["value"] == resolved["group_from"]["value"]
        (finding,) = findings_of(grouped.folder, "groups_applied")
        assert finding["evidence"]["num_groups"] == 18

    def test_effect_of_groups_is_measured(self, grouped: headstart.Run) -> None:
        patterns = read_json(grouped.folder / "dataset_report.json")["group_patterns"]
        (used,) = [p for p in patterns if p["is_used"]]
        assert used["accepted"]
        assert used["num_groups"] == 18
        assert 0 <= used["accuracy_grouped"] <= used["accuracy_independent"] <= 1

    def test_group_from_none_disables_groups(self, variants: Path, tmp_path: Path) -> None:
        run = headstart.train(variants, out=tmp_path / "run", group_from="none")
        assert run.metrics["num_groups"] is None or run.metrics["num_groups"] > 18
        decision = decisions_of(run.folder)["group_from"]
        assert (decision["reason"], decision["source"]) == ("groups_switched_off", "python")
        resolved = yaml.safe_load((run.folder / "config.resolved.yaml").read_text(encoding="utf-8"))
        assert resolved["group_from"]["value"] == "none"

    def test_group_from_selects_another_pattern(self, variants: Path, tmp_path: Path) -> None:
        run = headstart.train(variants, out=tmp_path / "run", group_from=r"_(\d)\d*\.jpg", test_size=0.3)
        digit = {name: name.rpartition("_")[2][0] for name in split_of(run)}
        sides: dict[str, set[str]] = {}
        for name, side in split_of(run).items():
            sides.setdefault(digit[name], set()).add(side)
        assert all(len(s) == 1 for s in sides.values())


class TestGroupsInQuestion:
    """Images at eight exposures in their names: not groups, and not applied as such."""

    def test_questionable_groups_are_reported_everywhere(self, exposed: headstart.Run) -> None:
        assert exposed.metrics["num_groups"] is None or exposed.metrics["num_groups"] > 60
        health = read_json(exposed.folder / "dataset_report.json")
        (pattern,) = health["group_patterns"]
        assert (pattern["status"], pattern["is_used"]) == ("question_confounded_with_exposure", False)
        (finding,) = [f for f in health["findings"] if f["kind"] == "groups_in_question"]
        assert finding["evidence"]["accuracy_independent"] == pattern["accuracy_independent"]
        assert finding["evidence"]["accuracy_grouped"] == pattern["accuracy_grouped"]
        resolved = yaml.safe_load((exposed.folder / "config.resolved.yaml").read_text(encoding="utf-8"))
        (question,) = resolved["group_from"]["evidence"]["questions"]
        assert question == {"pattern": pattern["pattern"], "status": pattern["status"]}
        log = log_of(exposed).splitlines()
        option = f"--group-from {shlex.quote(pattern['pattern'])}"
        assert any(option in line for line in log)
        (emitted,) = findings_of(exposed.folder, "groups_in_question")
        assert emitted["evidence"]["status"] == pattern["status"]
        report = read_json(exposed.folder / "report.json")
        assert any(r["kind"] == "groups_in_question" for r in report["comment"]["findings"])
        assert option in html.unescape((exposed.folder / "report.html").read_text(encoding="utf-8"))

    def test_suggested_options_work(self, exposures: Path, exposed: headstart.Run) -> None:
        (pattern,) = read_json(exposed.folder / "dataset_report.json")["group_patterns"]
        checked = headstart.check(exposures, group_from=pattern["pattern"])
        assert [(p.status, p.source) for p in checked.dataset_report.group_patterns] == [
            (GroupStatus.APPLIED, "requested")
        ]
        assert checked.dataset_report.group_patterns[0].accuracy_grouped == pattern["accuracy_grouped"]
        silent = headstart.check(exposures, group_from="none")
        assert silent.dataset_report.group_patterns == ()
        assert silent.dataset_report.findings == ()


class TestRange:
    """16-bit and float images: one range, from training images, the same in training and in the bundle."""

    @pytest.mark.parametrize("kind", ["16-bit", "float"])
    def test_range_comes_from_training_images(self, kind: str, tmp_path: Path, make_images: Make) -> None:
        source = make_images(tmp_path / "source", {"stripes": 14, "discs": 14})
        for file in sorted(source.rglob("*.jpg")):
            number = int(file.stem)
            gray = np.asarray(Image.open(file).convert("L"), dtype=np.float64) / 255
            side = "train" if number < 9 else "test"
            values = gray * (1000 if side == "train" else 30_000)  # test images must not choose the range
            target = tmp_path / "d" / side / file.parent.name / f"{number}.{'png' if kind == '16-bit' else 'tif'}"
            target.parent.mkdir(parents=True, exist_ok=True)
            array = values.astype(np.uint16) if kind == "16-bit" else (values / 1000).astype(np.float32)
            Image.fromarray(array).save(target)
        run = headstart.train(tmp_path / "d", out=tmp_path / "run")
        expected = [0.0, 1023.0] if kind == "16-bit" else [0.0, 1.0]
        info = read_json(run.folder / "bundle" / "bundle.json")
        spec = ImageSpec.from_json(info["pixels"])
        assert list(spec.intensity_range or ()) == expected
        resolved = yaml.safe_load((run.folder / "config.resolved.yaml").read_text(encoding="utf-8"))
        assert list(resolved["intensity_range"]["value"]) == expected
        assert resolved["intensity_range"]["evidence"]["is_from_training"] is True
        assert read_json(run.folder / "dataset_report.json")["intensity_range"] == expected
        decision = decisions_of(run.folder)["intensity_range"]
        assert decision["value"] == expected
        assert run.metrics["parity"]["max_difference"] < 1e-3
        files = sorted((tmp_path / "d" / "train").rglob("*.*"))
        assert read_image(files[0], spec).std() > 20  # not black
        predictions = run.predict([str(f) for f in files])
        assert np.mean([p.label == f.parent.name for p, f in zip(predictions, files, strict=True)]) > 0.9

    def test_misnamed_16_bit_files_get_range(self, tmp_path: Path, make_images: Make) -> None:
        """Otherwise the images would be nearly black, and the report would state an unused range."""
        data = make_images(tmp_path / "d", {"stripes": 6, "discs": 6})
        for file in sorted(data.rglob("*.jpg")):
            gray = np.asarray(Image.open(file).convert("L"), dtype=np.uint16) * 16
            Image.fromarray(gray).save(file, format="PNG")
        run = headstart.train(data, out=tmp_path / "run")
        info = read_json(run.folder / "bundle" / "bundle.json")
        assert (
            info["pixels"]["intensity_range"]
            == read_json(run.folder / "dataset_report.json")["intensity_range"]
            == [0, 4095]
        )

    def test_explicit_range(self, tmp_path: Path, make_images: Make) -> None:
        source = make_images(tmp_path / "source", {"stripes": 6, "discs": 6})
        for file in sorted(source.rglob("*.jpg")):
            gray = np.asarray(Image.open(file).convert("L"), dtype=np.uint16) * 16
            target = tmp_path / "d" / file.parent.name / f"{file.stem}.png"
            target.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(gray).save(target)
        run = headstart.train(tmp_path / "d", out=tmp_path / "run", intensity_range="0,8000")
        info = read_json(run.folder / "bundle" / "bundle.json")
        assert info["pixels"]["intensity_range"] == [0, 8000]


class TestMemory:
    """A cached report costs nothing and is equal."""

    def test_cached_report_decodes_nothing(
        self, leaky: Path, leaky_run: headstart.Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(*_: object, **__: object) -> None:
            pytest.fail("something was decoded again")

        monkeypatch.setattr("headstart.data.image_scan.decode_reduced", refuse)
        monkeypatch.setattr("headstart.data.image_scan.decode_for_both", refuse)
        monkeypatch.setattr("headstart.quality.inspector.inspect_dataset", refuse)
        again = headstart.train(leaky, out=tmp_path / "again")
        assert read_json(again.folder / "dataset_report.json") == read_json(leaky_run.folder / "dataset_report.json")
        for block in ("cv", "test", "test_including_leaks"):
            assert again.metrics[block] == leaky_run.metrics[block]

    def test_report_without_cache_is_equal(self, leaky: Path, leaky_run: headstart.Run, tmp_path: Path) -> None:
        again = headstart.train(leaky, out=tmp_path / "again", cache=False)
        assert read_json(again.folder / "dataset_report.json") == read_json(leaky_run.folder / "dataset_report.json")
        assert again.metrics["test"]["confusion"] == leaky_run.metrics["test"]["confusion"]

    def test_check_and_train_agree(self, leaky: Path, leaky_run: headstart.Run) -> None:
        for use_cache in (True, False):
            checked = headstart.check(leaky, use_cache=use_cache).to_json()
            assert json.loads(json.dumps(checked)) == read_json(leaky_run.folder / "dataset_report.json")

    def test_changed_file_is_rescanned(self, tmp_path: Path, make_images: Make) -> None:
        data = make_images(tmp_path / "d", {"stripes": 6, "discs": 6})
        before = headstart.check(data)
        assert not before.dataset_report.duplicates
        shutil.copy(data / "stripes" / "000.jpg", data / "stripes" / "001.jpg")
        after = headstart.check(data)
        assert [(p.a, p.b) for p in after.dataset_report.duplicates] == [("stripes/000.jpg", "stripes/001.jpg")]

    def test_changed_file_date_is_rescanned(self, tmp_path: Path, make_images: Make) -> None:
        """The date of a file may reveal its class."""
        data = make_images(tmp_path / "d", {"stripes": 20, "discs": 20})
        assert not any(s.what == "date" for s in headstart.check(data).dataset_report.shortcuts)
        for path in (data / "discs").iterdir():
            os.utime(path, (1_500_000_000, 1_500_000_000))
        assert any(s.what == "date" for s in headstart.check(data).dataset_report.shortcuts)

    def test_added_column_is_inspected(self, tmp_path: Path, make_images: Make) -> None:
        """The images are the same, but there is one more candidate for groups."""
        data = make_images(tmp_path / "d", {"stripes": 8, "discs": 8})
        files = sorted(data.rglob("*.jpg"))
        rows = [f"{f.relative_to(data).as_posix()},{f.parent.name}" for f in files]
        (data / "table.csv").write_text("\n".join(["image,label", *rows]))
        before = headstart.check(data / "table.csv")
        assert not any(p.pattern == "patient" for p in before.dataset_report.group_patterns)
        rows = [f"{row},p{i // 4}" for i, row in enumerate(rows)]
        (data / "table.csv").write_text("\n".join(["image,label,patient", *rows]))
        after = headstart.check(data / "table.csv")
        assert [p.num_groups for p in after.dataset_report.group_patterns if p.pattern == "patient"] == [4]

    def test_changed_label_or_split_is_inspected(self, tmp_path: Path, make_images: Make) -> None:
        data = make_images(tmp_path / "d", {"stripes": 8, "discs": 8})
        shutil.copy(data / "stripes" / "000.jpg", data / "stripes" / "copy.jpg")
        names = sorted(f.relative_to(data).as_posix() for f in data.rglob("*.jpg"))

        def report_of(label: dict[str, str], split: dict[str, str]) -> DatasetReport:
            rows = [f"{n},{label.get(n, n.split('/')[0])},{split.get(n, 'train')}" for n in names]
            (data / "table.csv").write_text("\n".join(["image,label,split", *rows]))
            return headstart.check(data / "table.csv", use_network=False).dataset_report

        plain = report_of({}, {"discs/000.jpg": "test"})
        assert (plain.label_conflicts, plain.leaks) == ((), ())
        assert len(report_of({"stripes/copy.jpg": "discs"}, {"discs/000.jpg": "test"}).label_conflicts) == 1
        assert len(report_of({}, {"stripes/copy.jpg": "test"}).leaks) == 1
        assert report_of({}, {"discs/000.jpg": "test"}) == plain

    def test_damaged_cache_is_ignored(self, tmp_path: Path, make_images: Make) -> None:
        data = make_images(tmp_path / "d", {"stripes": 6, "discs": 6}, first_seed=700)
        first = headstart.check(data)
        for path in (cache_root() / "scans").rglob("*.rows"):
            raw = bytearray(path.read_bytes())
            raw[len(raw) // 2] ^= 255  # somewhere in the rows
            path.write_bytes(bytes(raw))
        shutil.copy(data / "stripes" / "000.jpg", data / "stripes" / "copy.jpg")
        second = headstart.check(data)
        assert len(second.dataset_report.duplicates) == 1
        assert first.dataset_report.duplicates == ()


class TestChains:
    """Two slow pans per class: joined by near-duplicates, only the most frequent class is left."""

    @pytest.fixture
    def pans(self, tmp_path: Path) -> Path:
        rng = np.random.default_rng(0)
        for label in ("cat", "dog", "owl"):
            (tmp_path / "pans" / label).mkdir(parents=True)
            for _ in range(2):
                coarse = rng.uniform(40, 190, (14, 26, 3)).astype(np.uint8)
                wide = np.asarray(Image.fromarray(coarse).resize((260, 140), Image.Resampling.BICUBIC), np.float64)
                for frame in range(16):
                    image = wide[:, 2 * frame : 2 * frame + 160] + rng.normal(0, 6, (140, 160, 3))
                    name = f"{rng.bytes(6).hex()}.jpg"
                    Image.fromarray(image.clip(0, 255).astype(np.uint8)).save(tmp_path / "pans" / label / name)
        return tmp_path / "pans"

    def test_both_scores_and_hint_are_reported(self, pans: Path, tmp_path: Path) -> None:
        run = headstart.train(pans, out=tmp_path / "run")
        findings = read_json(run.folder / "dataset_report.json")["findings"]
        (finding,) = [f for f in findings if f["kind"] == "duplicates_at_baseline"]
        assert finding["severity"] == "warning"
        assert finding["evidence"]["accuracy_separate"] > 0.8
        assert finding["evidence"]["accuracy_joined"] < 0.45
        assert run.metrics["cv"]["accuracy"]["value"] < 0.45
        assert sum("--group-from image" in line for line in log_of(run).splitlines()) == 1
        apart = headstart.train(pans, out=tmp_path / "apart", group_from="image")
        assert apart.metrics["num_groups"] is None
        assert apart.metrics["cv"]["accuracy"]["value"] > 0.8
