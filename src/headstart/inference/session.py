"""Open, verify and time ONNX Runtime sessions on the CPU."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from headstart.errors import BundleError
from headstart.messages.numbers import pluralize
from headstart.utils.dependencies import import_onnxruntime

__all__ = ["check_session", "measure_latency", "open_session"]


_NUM_RUNS = 33  # maximum runs of a latency measurement, including three warm-up runs


def open_session(model: bytes, num_threads: int) -> Any:
    """Return an ONNX Runtime session on the CPU.

    Raises:
        BundleError: ONNX Runtime cannot load the model.
    """
    onnxruntime = import_onnxruntime()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = num_threads
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.load_model_format", "ONNX")  # the format that `check_model` validated
    options.log_severity_level = 4  # fatal only: errors are raised as exceptions
    try:
        return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's errors share no base but Exception
        raise BundleError(
            f"ONNX Runtime {onnxruntime.__version__} cannot open the model: {str(error).splitlines()[0]}",
            hint="pip install --upgrade onnxruntime",
        ) from error


def measure_latency(session: Any, size_hw: tuple[int, int], num_threads: int) -> dict[str, Any]:
    """Measure the latency of the network at batch size 1 in milliseconds; takes at most about a second.

    Args:
        session: Session of the model.
        size_hw: Input height and width in pixels.
        num_threads: Number of threads of the session, for the result.
    """
    pixels = np.zeros((1, 3, *size_hw), dtype=np.float32)
    times: list[float] = []
    measurement_started = time.perf_counter()
    while len(times) < _NUM_RUNS and (len(times) < 8 or time.perf_counter() - measurement_started < 1.0):
        started = time.perf_counter()
        session.run(None, {"pixels": pixels})
        times.append((time.perf_counter() - started) * 1000)
    p50, p95 = np.quantile(times[3:], [0.5, 0.95])
    rounded = {"p50_ms": round(float(p50), 3), "p95_ms": round(float(p95), 3)}
    return {"batch": 1, **rounded, "num_threads": num_threads, "runs": len(times) - 3}


def check_session(session: Any, size_hw: tuple[int, int], num_classes: int, *, has_boxes: bool = False) -> None:
    """Check the inputs and outputs of the ONNX model against the bundle.

    Args:
        session: Session of the model.
        size_hw: Input height and width in pixels.
        num_classes: Number of class names; 0 for a task without classes.
        has_boxes: Whether the model detects objects.

    Raises:
        BundleError: They do not match.
    """
    inputs = {value.name: (value.type, list(value.shape)) for value in session.get_inputs()}
    outputs = {value.name: list(value.shape) for value in session.get_outputs()}
    expected = [3, *size_hw]
    if list(inputs) != ["pixels"] or inputs["pixels"][0] != "tensor(float)" or inputs["pixels"][1][1:] != expected:
        raise BundleError(f"the model has inputs {inputs}; expected one float32 input `pixels` of (B, {expected}).")
    logits, boxes = outputs.get("logits", []), outputs.get("boxes", [])
    if num_classes and not has_boxes and logits[1:] != [num_classes]:
        raise BundleError(
            f"the model has outputs {outputs}; expected `logits` of {pluralize(num_classes, 'class', 'classes')}."
        )
    if has_boxes and (len(logits) != 3 or logits[2] != num_classes or boxes[1:] != [logits[1], 4]):
        raise BundleError(
            f"the model has outputs {outputs}; expected `logits` (B, P, {num_classes}) and `boxes` (B, P, 4)."
        )
