"""Training by the processes that ``torchrun`` starts: rank 0 runs the command, the others join its trainings.

``torchrun --nproc-per-node 2 -m tunery run recipe.yaml`` starts the command twice. Rank 0 does all that one
process does; where it comes to train, it hands base, rows and settings to the others, which until then wait
and open neither home nor database. They read the base and checkpoints at the same paths.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
import time
from datetime import timedelta
from functools import cache
from typing import Any, NamedTuple, TypeAlias

import torch
import torch.distributed as dist
from pydantic import TypeAdapter

from tunery.core.errors import ResourceError, TuneryError
from tunery.core.figures import counted
from tunery.core.progress import Silent
from tunery.core.training import BaseModelInfo
from tunery.train.config import TrainConfig
from tunery.train.methods.method import TrainingRows
from tunery.train.ranks import Team
from tunery.train.reporting import Measure, Reporting
from tunery.train.section import training_methods
from tunery.train.training import Folders, Trained, train_adapter

_POLL_S = 0.2
"""How often a rank that waits looks whether there is something to do [s]."""
_TRAIN, _END = b"train", b"end"

Handed: TypeAlias = tuple[BaseModelInfo, TrainingRows, Folders, dict[str, Any], bool | None]
"""Base, rows, folders, settings, and whether a higher metric is better (None: none is measured)."""


class _Launched(NamedTuple):
    store: Any
    """Of the launcher: words that ranks leave for each other."""
    team: Team


def train_together(
    base: BaseModelInfo, rows: TrainingRows, *, config: TrainConfig, folders: Folders, reporting: Reporting
) -> Trained:
    """Train as :func:`train_adapter` does, with the other ranks where ``torchrun`` started some.

    Raises:
        ResourceError: As there, and where another rank has ended.
    """
    launched = _launched()
    if launched is None:
        return train_adapter(base, rows, config=config, folders=folders, reporting=reporting)
    _say(launched, _TRAIN)
    _form(launched)
    better = reporting.measure.higher_is_better if reporting.measure else None
    launched.team.send(_handed().dump_json((base, rows, folders, config.model_dump(mode="json"), better)))
    reporting.progress.event(f"training on {counted(launched.team.size, 'rank')}")
    try:
        return train_adapter(
            base, rows, config=config, folders=folders, reporting=reporting, team=launched.team
        )
    except RuntimeError as error:
        if not _is_broken(error):
            raise
        raise ResourceError(
            "another rank of this training has ended; what it said stands above",
            hint="the same command continues from the newest checkpoint",
        ) from error


def rank() -> int:
    """Return which of the processes that torchrun started this one is; 0 where it started none."""
    launched = _launched()
    return 0 if launched is None else launched.team.rank


def follow() -> int:
    """Join every training of rank 0 until its command ends; return this process's exit code."""
    launched = _launched()
    if launched is None or launched.team.leads:
        raise RuntimeError("not one of the ranks above 0 that torchrun starts")
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    done = 0
    while _heard(launched, done) == _TRAIN:
        done += 1
        before = {n: signal.signal(n, signal.SIG_IGN) for n in (signal.SIGINT, signal.SIGTERM)}
        try:
            _form(launched)
            _join(launched.team)
        except KeyboardInterrupt:
            pass  # rank 0 was asked to stop, and every rank with it
        except (TuneryError, RuntimeError, OSError) as error:
            if not _is_broken(error):
                sys.stderr.write(f"rank {launched.team.rank}: {error}\n")
            return 1
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
    return 0


def dismiss() -> None:
    """Let the other ranks go; rank 0 has nothing more to do."""
    launched = _launched()
    if launched is not None and launched.team.leads:
        with contextlib.suppress(RuntimeError):  # torchrun is gone, and they with it
            _say(launched, _END)


def _join(team: Team) -> None:
    base, rows, folders, settings, better = _handed().validate_json(team.send(b""))
    config = training_methods()[settings["method"]].config.model_validate(settings)
    measure = None if better is None else Measure(lambda folder: {}, better)
    reporting = Reporting(Silent(), measure=measure)
    train_adapter(base, rows, config=config, folders=folders, reporting=reporting, team=team)


@cache
def _handed() -> TypeAdapter[Handed]:
    return TypeAdapter(Handed)


@cache
def _launched() -> _Launched | None:
    """Return what torchrun says of this process; None where it was not started by it, or is alone."""
    if int(os.environ.get("WORLD_SIZE", "1")) < 2 or "TORCHELASTIC_RUN_ID" not in os.environ:
        return None
    store, rank, size = next(dist.rendezvous("env://"))  # type: ignore[attr-defined]
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    # From here on the Trainer takes the process for what it is to it: one that trains by itself.
    for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE"):
        os.environ.pop(name, None)
    return _Launched(store, Team(rank, size))


def _form(launched: _Launched) -> None:
    """Make the process group where there is none yet."""
    if not dist.is_initialized():
        # The Trainer tells how to have it divide batches; it is not to.
        logging.getLogger("transformers.training_args").setLevel(logging.ERROR)
        backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
        store = dist.PrefixStore("group", launched.store)  # type: ignore[attr-defined]
        team = launched.team
        dist.init_process_group(
            backend, store=store, rank=team.rank, world_size=team.size, timeout=timedelta(minutes=30)
        )


def _say(launched: _Launched, word: bytes) -> None:
    count = launched.store.add("said", 1)
    launched.store.set(f"word-{count - 1}", word)


def _heard(launched: _Launched, index: int) -> bytes:
    key = f"word-{index}"
    while not launched.store.check([key]):
        time.sleep(_POLL_S)
    return bytes(launched.store.get(key))


def _is_broken(error: BaseException) -> bool:
    """Tell whether an exchange failed because the other side is gone."""
    text = str(error)
    return any(sign in text for sign in ("closed by peer", "Connection reset", "gloo", "NCCL", "Broken pipe"))
