"""Training by the processes that ``torchrun`` starts: rank 0 runs the command, the others join its trainings.

``torchrun --nproc-per-node 2 -m tunery run recipe.yaml`` starts the command twice. Rank 0 does all that one
process does; where it comes to train, it hands base, rows and settings to the others, which until then wait
and open neither home nor database. They read the base and checkpoints at the same paths.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from datetime import timedelta
from functools import cache
from typing import Any, NamedTuple

import torch
import torch.distributed as dist

from tunery.core.errors import ConfigError, ResourceError, TuneryError
from tunery.core.figures import counted
from tunery.core.progress import Silent
from tunery.core.training import BaseModelInfo
from tunery.train.config import TrainConfig
from tunery.train.handing import Handed, hide_launcher, is_broken
from tunery.train.methods.method import TrainingRows
from tunery.train.ranks import Team
from tunery.train.reporting import Measure, Reporting
from tunery.train.training import Folders, Trained, train_adapter

_POLL_S = 0.2
"""How often a rank that waits looks whether there is something to do [s]."""
_TRAIN, _END = b"train", b"end"


class _Launched(NamedTuple):
    store: Any
    """Of the launcher: words that ranks leave for each other."""
    team: Team


def train_together(
    base: BaseModelInfo, rows: TrainingRows, *, config: TrainConfig, folders: Folders, reporting: Reporting
) -> Trained:
    """Train as :func:`train_adapter` does: on a Ray cluster where the settings say so, with the other ranks
    where ``torchrun`` started some.

    Raises:
        ConfigError: As there, where Ray is not installed, or where both are asked for.
        ResourceError: As there, and where another rank has ended.
    """
    launched = _launched()
    if config.engine == "ray":
        if launched is not None:
            raise ConfigError(
                "train.engine is ray, and torchrun started this command: one of them starts the processes",
                hint="the same command without torchrun, or train.engine=local",
                param="train.engine",
            )
        from tunery.train.on_ray import train_on_ray

        return train_on_ray(base, rows, config=config, folders=folders, reporting=reporting)
    if launched is None:
        return train_adapter(base, rows, config=config, folders=folders, reporting=reporting)
    _say(launched, _TRAIN)
    _form(launched)
    better = reporting.measure.higher_is_better if reporting.measure else None
    launched.team.send(Handed(base, rows, folders, config, better).written())
    reporting.progress.event(f"training on {counted(launched.team.size, 'rank')}")
    try:
        return train_adapter(
            base, rows, config=config, folders=folders, reporting=reporting, team=launched.team
        )
    except RuntimeError as error:
        if not is_broken(error):
            raise
        raise ResourceError(
            "another rank of this training has ended; its own error stands above, or torchrun's below where "
            "it was killed",
            hint="the same command continues from the newest checkpoint",
        ) from error


def require_no_ranks(what: str) -> None:
    """Refuse something that the processes of torchrun cannot do together.

    Raises:
        ConfigError: torchrun started several.
    """
    if _launched() is not None:
        raise ConfigError(
            f"{what} cannot be started by torchrun: a trial cut short would leave the other ranks waiting",
            hint="the same command without torchrun; train.engine=ray gives each trial several processes",
        )


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
            if not is_broken(error):
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
    base, rows, folders, config, better = Handed.read(team.send(b""))
    measure = None if better is None else Measure(lambda folder: {}, better)
    reporting = Reporting(Silent(), measure=measure)
    train_adapter(base, rows, config=config, folders=folders, reporting=reporting, team=team)


@cache
def _launched() -> _Launched | None:
    """Return what torchrun says of this process; None where it was not started by it, or is alone."""
    if int(os.environ.get("WORLD_SIZE", "1")) < 2 or "TORCHELASTIC_RUN_ID" not in os.environ:
        return None
    store, rank, size = next(dist.rendezvous("env://"))  # type: ignore[attr-defined]
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    hide_launcher()
    return _Launched(store, Team(rank, size))


def _form(launched: _Launched) -> None:
    """Make the process group where there is none yet."""
    if not dist.is_initialized():
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
