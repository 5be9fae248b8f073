"""What a score was measured on, in plain words: the same on the screen and in the report."""

from __future__ import annotations

__all__ = ["measured_on"]


def measured_on(protocol: str, num_samples: int) -> str:
    """What stands behind "Measured on".

    Args:
        protocol: How the scores came about, as in `records.Evaluation`.
        num_samples: How many pictures were scored.
    """
    count = f"{num_samples:,} pictures"
    words = {
        "leave-one-out": f"each of {count} was predicted by a model that had not seen it",
        "leave-one-group-out": f"each of {count} was predicted by a model that had seen nothing of its group",
        "given": f"{count} of your own test folder, used once",
        "val": f"{count} of your validation folder, used for no choice",
        "given validation": f"{count} of your validation folder, which also chose between the models",
    }
    if "fold" in protocol:
        return f"each of {count} was predicted by a model that had not seen it ({protocol})"
    return words.get(protocol, f"{count}, {protocol}, used once")
