"""Match paths with templates such as `{group}/{label}/*`.

A field or `*` does not cross a `/`; `**` does.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from headstart.errors import UsageError

__all__ = ["Template", "label_matcher"]

_TOKEN = re.compile(r"\{(\w*)\}|\*\*/?|\*|\?")
_FIELDS = ("label", "group", "split")


class Template:
    """A layout template.

    Args:
        text: Literal text with `{label}`, `{group}`, `{split}`, `*`, `**` and `?`.
        file_only: Match the file name alone; otherwise the whole path below the root.

    Raises:
        UsageError: An unknown or repeated field.
    """

    def __init__(self, text: str, *, file_only: bool = False) -> None:
        self.text = text
        self.file_only = file_only
        parts, position, used = [], 0, set()
        for token in _TOKEN.finditer(text):
            parts.append(re.escape(text[position : token.start()]))
            position = token.end()
            field = token.group(1)
            if field is not None:
                if field not in _FIELDS or field in used:
                    raise UsageError(
                        f"{'repeated' if field in used else 'unknown'} field `{{{field}}}` in the layout `{text}`.",
                        hint="fields are {label}, {group} and {split}, each at most once; `*` matches anything",
                    )
                used.add(field)
                parts.append(f"(?P<{field}>[^/]+?)")
            elif token.group().startswith("**"):
                parts.append("(?:.*/)?" if token.group().endswith("/") else ".*")
            else:
                parts.append("[^/]*" if token.group() == "*" else "[^/]")
        parts.append(re.escape(text[position:]))
        self.fields = frozenset(used)
        # A template that ends in a field or literal may omit the file extension.
        self._pattern = re.compile("".join(parts) + r"(?:\.[^./]*)?", re.DOTALL)

    def match(self, name: str) -> dict[str, str] | None:
        """Return the fields of a path below the root (with `/`), or None if it does not match."""
        if self.file_only:
            name = name.rpartition("/")[2]
        match = self._pattern.fullmatch(name)
        return None if match is None else match.groupdict()


def label_matcher(text: str) -> Callable[[str], str | None]:
    """Return a function from image name to label, from a template (`{label}_*`) or a regular expression.

    Raises:
        UsageError: The pattern is neither.
    """
    if "{" in text:
        template = Template(text, file_only="/" not in text)
        if "label" not in template.fields:
            raise UsageError(f"the pattern `{text}` has no {{label}}.", hint="e.g. --label-pattern '{label}_*'")
        return lambda name: (template.match(name) or {}).get("label")
    try:
        pattern = re.compile(text)
    except re.error as error:
        raise UsageError(
            f"`{text}` is neither a template with {{label}} nor a regular expression ({error}).",
            hint="e.g. --label-pattern '{label}_*'",
        ) from error
    if not pattern.groups:
        raise UsageError(f"the expression `{text}` has no capture group for the label.", hint="e.g. '^([a-z]+)_'")
    group: str | int = "label" if "label" in pattern.groupindex else 1

    def match(name: str) -> str | None:
        match = pattern.search(name.rpartition("/")[2]) or pattern.search(name)
        return None if match is None else match.group(group)

    return match
