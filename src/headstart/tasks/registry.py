"""Find the task of a dataset, a run or a bundle.

Packages register a task with `register`, or declare an entry point of the group `headstart.tasks`, whose name is that
of the task and whose value is a `Task`.
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import entry_points
from typing import Any, TypeAlias

from headstart.data.options import ReadOptions
from headstart.errors import UsageError
from headstart.tasks.contract import Task

__all__ = ["AnyTask", "find_task", "recognize_task", "register", "task_names"]

AnyTask: TypeAlias = Task[Any, Any, Any, Any]

_BUILT_IN = {"detect": "headstart.tasks.detect.task", "classify": "headstart.tasks.classify.task"}
"""Modules of the tasks, in the order in which they may recognize a dataset; the last one takes all others."""

_registered: dict[str, AnyTask] = {}


def register(task: AnyTask) -> None:
    """Add a task; it may recognize datasets before the built-in ones.

    Raises:
        UsageError: There is another task of this name.
    """
    if task.name in _BUILT_IN or _registered.get(task.name, task) is not task:
        raise UsageError(f"there is another task `{task.name}`.", hint="register the task under another name")
    _registered[task.name] = task


def task_names() -> tuple[str, ...]:
    """Return the names of all tasks."""
    return (*_registered, *sorted(_BUILT_IN), *(e.name for e in entry_points(group="headstart.tasks")))


def find_task(name: str) -> AnyTask:
    """Return the task of a name.

    Raises:
        UsageError: There is none.
    """
    if name in _registered:
        return _registered[name]
    if name in _BUILT_IN:
        task: AnyTask = import_module(_BUILT_IN[name]).TASK
        return task
    for entry in entry_points(group="headstart.tasks", name=name):
        register(entry.load())
        return _registered[name]
    raise UsageError(f"unknown task `{name}`.", hint=f"tasks: {', '.join(task_names())}, or auto")


def recognize_task(data: str, requested: str, options: ReadOptions) -> AnyTask:
    """Return the requested task, or with `auto` that of the dataset.

    Raises:
        UsageError: An unknown task is requested.
    """
    if requested != "auto":
        return find_task(requested)
    names = [*_registered, *_BUILT_IN]
    for name in names[:-1]:
        if find_task(name).recognizes(data, options):
            return find_task(name)
    return find_task(names[-1])
