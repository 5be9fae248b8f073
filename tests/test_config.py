"""Settings: explicit beats automatic, the command line beats the file, and nothing is ignored."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from headstart.config import known_names, parse_minutes, resolve
from headstart.errors import SettingError
from headstart.records import Decision


def test_command_line_beats_file_beats_default(tmp_path: Path) -> None:
    file = tmp_path / "s.yaml"
    file.write_text("data: here\nseed: 3\nsize: 240\nhead:\n  mirror: on\n")
    resolved = resolve({"size": 224}, config_file=file)
    assert (resolved.settings.seed, resolved.settings.size, resolved.settings.fit) == (3, 224, "crop")
    assert resolved.settings.head.mirror == "on"
    assert resolved.sources == {"data": "config", "seed": "config", "size": "cli", "head.mirror": "config"}
    assert resolved.is_explicit("size")
    assert not resolved.is_explicit("fit")


@pytest.mark.parametrize(
    ("name", "value", "ours"),
    [("arch", "lite1", "backbone"), ("model", "lite1", "backbone"), ("imgsz", 256, "size"), ("img_size", 256, "size"),
     ("train.size", 256, "size"), ("threads", 3, "workers"), ("test-size", 0.3, "test_size")],
)  # fmt: skip
def test_spellings_of_other_tools(name: str, value: object, ours: str) -> None:
    assert getattr(resolve({"data": "d", name: value}).settings, ours) == value
    overridden = resolve({"data": "d"}, overrides=[f"{name}={value}"])
    assert getattr(overridden.settings, ours) == value


def test_one_setting_under_two_names_must_agree() -> None:
    with pytest.raises(SettingError, match="given twice"):
        resolve({"data": "d", "size": 224, "imgsz": 256})
    assert resolve({"data": "d", "size": 224, "imgsz": 224}).settings.size == 224


def test_unknown_names_are_errors_with_the_nearest_name() -> None:
    with pytest.raises(SettingError) as caught:
        resolve({"data": "d", "sede": 3})
    assert caught.value.hint == "did you mean `seed`?"
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("name", ["epochs", "lr", "lr0", "patience", "batch_size", "batch"])
def test_settings_without_effect_are_errors(name: str) -> None:
    with pytest.raises(SettingError, match="no effect"):
        resolve({"data": "d", name: 3})


@pytest.mark.parametrize(
    ("name", "value"), [("size", 3), ("seed", -1), ("test_size", 1.5), ("fit", "stretch"), ("budget", "soon")]
)
def test_values_that_do_not_fit_are_named(name: str, value: object) -> None:
    with pytest.raises(SettingError, match=f"{value}"):
        resolve({"data": "d", name: value})


def test_lengths_of_time() -> None:
    assert [parse_minutes(t) for t in ("90s", "5m", "1.5h", "2")] == [1.5, 5.0, 90.0, 2.0]


def test_the_resolved_file_reads_back_what_a_person_set(tmp_path: Path) -> None:
    first = resolve({"data": "d", "seed": 7}, overrides=["head.mirror=off"])
    first = first.with_decisions([Decision("head.penalty", 0.1, "least log-loss")])
    file = tmp_path / "config.resolved.yaml"
    file.write_text(first.to_yaml())
    rows = yaml.safe_load(file.read_text())
    assert rows["seed"] == {"value": 7, "source": "cli", "reason": "Seed of everything that is drawn."}
    assert rows["head.penalty"]["source"] == "auto"
    assert set(known_names()) <= set(rows)
    again = resolve({}, config_file=file)
    assert again.settings == first.settings


def test_a_file_may_ask_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "s.yaml"
    file.write_text("data: ${PICTURES_AT}/all\n")
    monkeypatch.setenv("PICTURES_AT", "there")
    assert resolve({}, config_file=file).settings.data == "there/all"
    monkeypatch.delenv("PICTURES_AT")
    with pytest.raises(SettingError, match="PICTURES_AT"):
        resolve({}, config_file=file)


@pytest.mark.parametrize("text", ["- a\n- b\n", "a: [", "\x00"])
def test_broken_files_are_named(tmp_path: Path, text: str) -> None:
    file = tmp_path / "s.yaml"
    file.write_text(text)
    with pytest.raises(SettingError, match=r"s\.yaml"):
        resolve({"data": "d"}, config_file=file)
    with pytest.raises(SettingError, match="cannot be read"):
        resolve({"data": "d"}, config_file=tmp_path / "none.yaml")
