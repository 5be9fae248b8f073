"""Recognize names of columns that state a subject or capture unit: `patient_id`, `PatientID`, `lesion`, `患者编号`."""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

__all__ = ["UNITS", "is_placeholder", "names_unit"]

_UNITS = (
    "patient subject person participant individual volunteer donor lesion slide specimen biopsy case video clip "
    "patienten proband probanden objekttrager paciente sujeto persona participante voluntario lesao caso sujet "
    "personne paziente soggetto sujeito individuo пациент 患者 病人 病例 受试者 被试 被験者 症例 환자"
)
_WITH_IDENTIFIER = (
    "animal mouse rat dog cat cow pig horse bird fish plant tree leaf eye knee tooth sample well dish plate field "
    "series sequence study exam visit session scan muestra proben tier"
)
_IDENTIFIERS = "id uid uuid no nr num number nummer numero code key name identifier 编号 番号 번호 号"
UNITS = frozenset(_UNITS.split())
"""Words for a subject or capture unit, folded, which have no other usual meaning as a column.

Others state a unit only with an identifier: `animal` may be the label, `animal_id` is a subject.
"""

_PLACEHOLDERS = frozenset(
    {
        *(
            "",
            "unknown",
            "unk",
            "na",
            "n/a",
            "n.a.",
            "#n/a",
            "<na>",
            "nan",
            "none",
            "null",
            "nil",
            "undefined",
            "missing",
        ),
        *("unspecified", "not available", "not known", "-", "--", "—", "–", ".", "?", "unbekannt", "inconnu"),
        *("desconocido", "desconhecido", "sconosciuto", "未知", "不明", "неизвестно"),
    }
)

_CAMEL = re.compile(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_COMPOUND = re.compile(r"(\w+?)(uid|id|nr|no|nummer|number|编号|番号|번호|号)")


def is_placeholder(cell: str) -> bool:
    """Return whether a cell states that a value is not known: `unknown`, `NA`, `-` or nothing."""
    return cell.strip().casefold() in _PLACEHOLDERS


@lru_cache(maxsize=1024)
def names_unit(column: str) -> bool:
    """Return whether the name of a column states nothing but a subject or capture unit, with or without an identifier.

    `patient_age` and `lesion_type` are properties of a unit, hence not its name.
    """
    plain = unicodedata.normalize("NFKD", _CAMEL.sub(" ", column.strip())).casefold()
    plain = unicodedata.normalize("NFC", "".join(c for c in plain if not "\u0300" <= c <= "\u036f"))
    words = re.findall(r"[^\W_]+", plain)
    if len(words) == 1 and words[0] not in UNITS and (parts := _COMPOUND.fullmatch(words[0])):
        words = [*parts.groups()]
    others = [word for word in words if word not in _IDENTIFIERS.split()]
    has_identifier = len(others) < len(words)
    return len(others) == 1 and (others[0] in UNITS or (has_identifier and others[0] in _WITH_IDENTIFIER.split()))
