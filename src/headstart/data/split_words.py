"""Recognize split names in folders, file names and table cells."""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

from headstart.types.records import SplitName

__all__ = ["cell_split", "is_train_and_val", "split_name", "split_words"]

_NAMES: dict[SplitName, str] = {
    "train": "train training trn learning trainval entrenamiento treino treinamento entrainement apprentissage "
    "addestramento egitim latih treningowy treningowe обучение 训练 訓練 学習 훈련",
    "val": "val valid validate validation dev validierung validacion validacao validazione validatie "
    "dogrulama validasi walidacyjny walidacyjne валидация 验证 検証 검증",
    "test": "test testing tst holdout eval evaluation prueba pruebas prova teste testowy testowe uji "
    "тест 测试 テスト 테스트",
}
_SPLIT_WORDS: dict[str, SplitName] = {word: split for split, words in _NAMES.items() for word in words.split()}
_SPLIT_SUFFIX = re.compile(r"([-_ ]?(set|data|daten|sdaten|images|imgs|split)|集|データ)$")
_CAMEL = re.compile(r"(?<=[a-z])(?=[A-Z])")
_HOLDOUT = re.compile(r"\bhold[-_ ]out\b")
_TRAIN_AND_VAL = re.compile(r"\btrain(ing)?[-_ ]?(and|und)?[-_ ]?val(id|idation)?(?![a-z])")


@lru_cache(maxsize=65_536)
def split_name(folder: str) -> SplitName | None:
    """Return the split that a folder or cell names, in any case (`Train`, `VAL`, `valid`, `test_set`), or None."""
    return _SPLIT_WORDS.get(_SPLIT_SUFFIX.sub("", _fold(folder)))


@lru_cache(maxsize=65_536)
def split_words(folder: str) -> frozenset[SplitName]:
    """Return all splits named by words of a folder or file name: `test_images`, `seg_train`, `val2017`."""
    whole = split_name(folder)
    words = re.findall(r"[^\W\d_]+", _fold(_CAMEL.sub(" ", folder)))
    named = {_SPLIT_WORDS[word] for word in words if word in _SPLIT_WORDS and word != "dev"}
    return frozenset(named | {whole} if whole else named)


def is_train_and_val(name: str) -> bool:
    """Return whether a file name names the training and validation split together: `images_trainval`."""
    return "trainval" in re.sub(r"[\W_]", "", name.lower())


@lru_cache(maxsize=65_536)
def cell_split(cell: str) -> SplitName | None:
    """Return the split that a cell names, as a whole or by its only split word (`PrivateTest`), or None."""
    words = split_words(cell) if cell.strip() else frozenset()
    return split_name(cell) or (next(iter(words)) if len(words) == 1 else None)


def _fold(text: str) -> str:
    """Return a text in lower case, without accents, and with `train_val` and `hold-out` as one word."""
    plain = unicodedata.normalize("NFKD", text.strip().casefold())
    plain = unicodedata.normalize("NFC", "".join(c for c in plain if not "\u0300" <= c <= "\u036f"))
    return _TRAIN_AND_VAL.sub("trainval", _HOLDOUT.sub("holdout", plain))
