"""Holds the linear algebra to one thread where more would wait for each other.

An eigendecomposition is a long chain of small steps with a barrier after each.  With two
threads on an idle machine it is 1.6 times as fast; with anything else running it is up to 10 times slower,
and its last bits depend on the number of threads.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from functools import lru_cache
from typing import Any

__all__ = ["one_blas_thread"]


def one_blas_thread() -> AbstractContextManager[Any]:
    """Return a context with one BLAS thread; without `threadpoolctl` (it comes with scikit-learn) it does nothing."""
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
