"""Several ranks of one training as processes of this machine, over gloo."""

from __future__ import annotations

import json
import multiprocessing
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch.distributed as dist

from tunery.train.ranks import Team


def on_ranks(folder: Path, size: int, work: Callable[[Team], Any]) -> list[Any]:
    """Call ``work`` on each of ``size`` ranks; return their JSON values, and whatever one raised as text."""
    folder.mkdir(parents=True, exist_ok=True)
    forks = multiprocessing.get_context("fork")  # what this process has imported need not be imported again
    ranks = [forks.Process(target=_rank, args=(folder, rank, size, work)) for rank in range(size)]
    for process in ranks:
        process.start()
    for process in ranks:
        process.join(timeout=120)
    alive = [process for process in ranks if process.is_alive()]
    for process in alive:
        process.kill()
        process.join()
    assert not alive, "ranks wait for each other"
    return [json.loads((folder / f"{rank}.json").read_text(encoding="utf-8")) for rank in range(size)]


def _rank(folder: Path, rank: int, size: int, work: Callable[[Team], Any]) -> None:
    try:
        dist.init_process_group(
            "gloo", store=dist.FileStore(str(folder / "store"), size), rank=rank, world_size=size
        )
        found = work(Team(rank, size))
    except BaseException as error:
        traceback.print_exc(file=sys.stderr)
        found = f"{type(error).__name__}: {error}"
    (folder / f"{rank}.json").write_text(json.dumps(found), encoding="utf-8")
    os._exit(0)  # nothing of the test's own process is cleaned up twice


def losses_of(found: Sequence[Any]) -> list[Any]:
    """Return the histories that ranks returned, which must be alike."""
    assert all(one == found[0] for one in found), found
    return list(found[0])
