"""Render errors in settings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["expected_value"]


def expected_value(item: Mapping[str, Any]) -> str:
    """Return the expected value of a pydantic error, from its code and context."""
    context = item.get("ctx") or {}
    match item["type"]:
        case "greater_than_equal":
            return f"it should be at least {context['ge']:g}"
        case "greater_than":
            return f"it should be greater than {context['gt']:g}"
        case "less_than_equal":
            return f"it should be at most {context['le']:g}"
        case "less_than":
            return f"it should be less than {context['lt']:g}"
        case "literal_error":
            return f"it should be {context['expected']}"
        case "bool_parsing" | "bool_type":
            return "it should be true or false"
        case "int_parsing" | "int_type" | "int_from_float":
            return "it should be a whole number"
        case "float_parsing" | "float_type" | "finite_number":
            return "it should be a number"
        case "string_type":
            return "it should be a string"
        case "tuple_type" | "list_type":
            return "it should be a list of values"
        case "too_long":
            return f"it should have at most {context['max_length']} values"
        case "missing":
            return "a value is missing"
        case "value_error":
            return str(context["error"])
        case _:
            return str(item["msg"])
