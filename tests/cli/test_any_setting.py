"""Test that every setting is an option, and that words from other tools get a helpful error."""

from __future__ import annotations

import pytest

from headstart.cli._any_setting import as_overrides, data_and_overrides
from headstart.cli.main import main
from headstart.config.settings import known_names
from headstart.errors import SettingError

DECLARED = {"--lr": True, "--offline": False, "-c": True}


@pytest.mark.parametrize(
    ("typed", "understood"),
    [
        (["d", "--dropout", "0.2", "--lr", "1"], ["d", "--lr", "1", "dropout=0.2"]),
        (["--weight-decay=0.1", "d"], ["d", "weight-decay=0.1"]),
        (["d", "--finetune.head_lr", "-1"], ["d", "finetune.head_lr=-1"]),
        (["d", "--tensorboard"], ["d", "tensorboard=true"]),
        (["d", "--tensorboard", "--offline"], ["d", "--offline", "tensorboard=true"]),
        (["d", "--refit-head", "false"], ["d", "refit-head=false"]),
        (["--data", "d", "-c", "--odd"], ["-c", "--odd", "data=d"]),
        (["d", "--lr", "--", "--dropout", "0.2"], ["d", "--lr", "--", "dropout=0.2"]),
        (["d", "--", "--dropout"], ["d", "--", "--dropout"]),
    ],
)
def test_undeclared_options_become_settings(typed: list[str], understood: list[str]) -> None:
    assert as_overrides(typed, DECLARED) == understood


def test_missing_value_and_unknown_setting() -> None:
    with pytest.raises(SettingError, match="`--dropout` requires a value"):
        as_overrides(["d", "--dropout"], DECLARED)
    with pytest.raises(SettingError, match="`--dropout` requires a value"):
        as_overrides(["d", "--dropout", "--offline"], DECLARED)
    with pytest.raises(SettingError, match="unknown setting `freeze`") as caught:
        as_overrides(["d", "--freeze", "10"], DECLARED)
    assert "--train-from" in str(caught.value.hint)


def test_data_as_setting() -> None:
    assert data_and_overrides("photos", ["a=1"]) == ("photos", ["a=1"])
    assert data_and_overrides("epochs=5", ["data=photos"]) == (None, ["epochs=5", "data=photos"])
    assert data_and_overrides(None, []) == (None, [])


def test_complete_help_lists_every_setting(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["train", "--help-all"])
    text = capsys.readouterr().out
    assert [name for name in known_names() if "." in name and f"  {name} " not in text] == []
    assert "--first-id" in text
    assert "…" not in text  # nothing is truncated


def test_help_hides_advanced_settings(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["train", "--help"])
    text = capsys.readouterr().out
    assert "--help-all" in text
    assert "--budget" in text
    assert "--first-id" not in text
    assert "finetune.warmup" not in text


def test_alias_of_other_tool_is_accepted_or_explained(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["train", "photos", "--freeze", "10"])
    assert stop.value.code == 2
    assert capsys.readouterr().err.startswith("error: unknown setting `freeze`.\nhint: --train-from STAGE")
