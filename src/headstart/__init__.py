"""Train image models on your own images by transfer learning, with tested accuracy estimates.

    import headstart

    run = headstart.train("photos/")            # a folder with one subfolder per class
    print(run.score)                            # with its 95 % CI and protocol
    run.predict("new_images/").to_csv("answers.csv")

Names are imported lazily, so `import headstart` is fast.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from headstart.dependencies import disable_telemetry

disable_telemetry()  # before any dependency is imported

__version__ = "0.1.0"

_HOME = {
    "train": "headstart.api",
    "load": "headstart.api",
    "compare": "headstart.api",
    "predict": "headstart.api",
    "report": "headstart.api",
    "resume": "headstart.api",
    "evaluate": "headstart.api",
    "check": "headstart.dataset_api",
    "embed": "headstart.dataset_api",
    "show": "headstart.dataset_api",
    "ImageClassifier": "headstart.classifier",
    "Detector": "headstart.detector",
    "HeadstartError": "headstart.errors",
    "Run": "headstart.model",
    "Model": "headstart.model",
}

__all__ = [
    "Detector",
    "HeadstartError",
    "ImageClassifier",
    "Model",
    "Run",
    "__version__",
    "check",
    "compare",
    "embed",
    "evaluate",
    "load",
    "predict",
    "report",
    "resume",
    "show",
    "train",
]

if TYPE_CHECKING:
    from headstart.api import compare, evaluate, load, predict, report, resume, train
    from headstart.classifier import ImageClassifier
    from headstart.dataset_api import check, embed, show
    from headstart.detector import Detector
    from headstart.errors import HeadstartError
    from headstart.model import Model, Run


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'headstart' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
