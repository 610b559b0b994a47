"""Spread: one function over many chunks, here, on all cores, or on a Ray cluster; results in order."""

from __future__ import annotations

import itertools
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Literal, TypeVar

from tunery.core.cluster import connect
from tunery.core.errors import ResourceError

Task = TypeVar("Task")
Shared = TypeVar("Shared")
Result = TypeVar("Result")
Work = Callable[[Task, Shared], Result]
Engine = Literal["local", "ray", "here"]

_ALONE = 4
"""Chunks worked on in this process before others are started: a small set is done before they would be up."""
_WAITING = 2
"""Chunks on their way to each worker: enough to keep it busy, few enough to bound memory."""
_RETRIES = 8
"""Times that Ray does a chunk again whose node was lost."""


def spread(
    function: Work[Task, Shared, Result], tasks: Iterable[Task], shared: Shared, *, engine: Engine = "local"
) -> Iterator[Result]:
    """Yield ``function(task, shared)`` for each task, in the order of the tasks.

    Tasks are drawn only as workers become free, so that a file is read no faster than it is worked on. What
    comes out depends on nothing but the tasks: not on the engine, the number of workers, or whether one died.

    Args:
        function: Importable by name, without side effects: a lost worker's task is done again.
        tasks: Each small enough to be sent to another process.
        shared: What goes with every task.
        engine: ``local`` uses this machine's cores once there are more than a few tasks; ``ray`` the cluster
            that ``RAY_ADDRESS`` names, else one on this machine; ``here`` only this process, for tasks that
            cannot be sent.

    Raises:
        ConfigError: Ray is asked for and not installed.
        ResourceError: Workers died and could not be replaced.
    """
    if engine == "ray":
        yield from _on_ray(function, tasks, shared)
        return
    iterator = iter(tasks)
    workers = _cores()
    alone = None if engine == "here" or workers < 2 else _ALONE
    for task in itertools.islice(iterator, alone):
        yield function(task, shared)
    for task in iterator:  # more than one process is worth its start
        yield from _on_cores(function, itertools.chain([task], iterator), shared, workers)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _on_cores(
    function: Work[Task, Shared, Result], tasks: Iterable[Task], shared: Shared, workers: int
) -> Iterator[Result]:
    from joblib import Parallel, delayed
    from joblib.externals.loky.process_executor import TerminatedWorkerError

    # This process reads and merges, which is about one core's work; large arrays travel through the pipe.
    parallel = Parallel(
        n_jobs=workers, return_as="generator", pre_dispatch=_WAITING * workers, max_nbytes=None
    )
    try:
        yield from parallel(delayed(function)(task, shared) for task in tasks)
    except TerminatedWorkerError:
        raise ResourceError(
            "a worker process died, most often because memory ran out", hint="free memory and start again"
        ) from None


def _on_ray(function: Work[Task, Shared, Result], tasks: Iterable[Task], shared: Shared) -> Iterator[Result]:
    ray = connect("data.engine")
    remote = ray.remote(max_retries=_RETRIES)(function)
    most = _WAITING * max(1, int(ray.cluster_resources().get("CPU", 1)))
    waiting: deque[Any] = deque()
    everywhere = ray.put(shared)
    for task in tasks:
        waiting.append(remote.remote(task, everywhere))
        if len(waiting) >= most:
            yield ray.get(waiting.popleft())
    while waiting:
        yield ray.get(waiting.popleft())
