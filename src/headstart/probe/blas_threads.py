"""Limit linear algebra to one thread.

An eigendecomposition has many small synchronized steps: two threads are 1.6 times as fast on an idle machine, but up to
10 times slower on a busy one, and the last bits depend on the number of threads.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from functools import lru_cache
from typing import Any

__all__ = ["one_blas_thread"]


def one_blas_thread() -> AbstractContextManager[Any]:
    """Return a context with one BLAS thread; a no-op without `threadpoolctl` (part of scikit-learn)."""
    controller = _controller()
    if controller is None:
        return nullcontext()
    limited: AbstractContextManager[Any] = controller.limit(limits=1, user_api="blas")
    return limited


@lru_cache(maxsize=1)
def _controller() -> Any:
    try:
        from threadpoolctl import ThreadpoolController  # type: ignore[import-untyped, unused-ignore]
    except ImportError:
        return None
    return ThreadpoolController()
