"""Training by workers of a Ray cluster, which Ray Train starts, watches and starts again.

The command trains nothing itself: it takes in what the workers report, judges answers for them, and has them
stop. Workers share each step as ranks do whoever started them; checkpoints lie in the home, and where a
worker dies all of them begin again from the newest.
"""

from __future__ import annotations

import os
import shutil
import threading
import time
import traceback
import uuid
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from tunery.core.cluster import connect
from tunery.core.errors import ResourceError, TuneryError
from tunery.core.figures import counted
from tunery.core.progress import ProgressBar, Silent
from tunery.core.training import BaseModelInfo
from tunery.train.config import TrainConfig
from tunery.train.handing import Handed, hide_launcher, is_broken
from tunery.train.methods.method import TrainingRows
from tunery.train.ranks import Team
from tunery.train.relay import Line, Message, Relay
from tunery.train.reporting import Measure, Reporting
from tunery.train.training import Folders, Trained, train_adapter

_POLL_S = 0.1
"""How often the command looks for messages [s]."""
_PATIENCE_S = 30.0
"""How long a cluster may take to start workers before that is said, or a stop waits for it no longer [s]."""
_TRIES = 3
"""Times in a row that workers may be lost without a checkpoint between [count]."""


def train_on_ray(
    base: BaseModelInfo, rows: TrainingRows, *, config: TrainConfig, folders: Folders, reporting: Reporting
) -> Trained:
    """Train as :func:`train_adapter` does, on workers of a Ray cluster.

    Raises:
        ConfigError: As there, and where Ray is not installed.
        ResourceError: As there, and where workers die again and again.
        KeyboardInterrupt: It was to stop; a checkpoint is saved.
    """
    ray = connect("train.engine")
    output, saved, start = folders
    folders = Folders(output.absolute(), saved.absolute(), start.absolute() if start else None)
    better = reporting.measure.higher_is_better if reporting.measure else None
    here = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(
        ray.get_runtime_context().get_node_id(), soft=False
    )
    relay = ray.remote(num_cpus=0, scheduling_strategy=here)(Relay).remote(
        Handed(base, rows, folders, config, better).written()
    )
    wanted, on_gpus = _workers(ray, config)
    fitting = threading.Thread(
        target=_fit,
        args=(relay, wanted, on_gpus, folders.checkpoints / f".ray-{uuid.uuid4().hex}"),
        daemon=True,
    )
    listener = _Listener(reporting, wanted, answer=lambda value: ray.get(relay.answer.remote(value)))
    fitting.start()
    try:
        with listener.bars:
            _follow(ray, relay, listener, fitting)
    finally:
        relay.stop.remote()  # whoever is still there saves and goes
    return listener.trained()


def _workers(ray: Any, config: TrainConfig) -> tuple[int, bool]:
    """Return how many workers there are to be, and whether each has a GPU."""
    resources = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    gpus = 0 if config.device == "cpu" else int(sum(each.get("GPU", 0) for each in resources))
    nodes = sum(each.get("CPU", 0) >= 1 for each in resources)
    return config.workers or gpus or max(nodes, 1), gpus > 0


def _fit(relay: Any, workers: int, on_gpus: bool, storage: Path) -> None:  # noqa: FBT001 - a thread's arguments
    """Have Ray Train run the workers until none of them has anything left to do."""
    import ray
    from ray.train import FailureConfig, RunConfig, ScalingConfig, UserCallback
    from ray.train.torch import TorchConfig, TorchTrainer

    class Losses(UserCallback):  # type: ignore[misc]
        """Tells the command of workers that are gone."""

        def after_exception(self, run_context: Any, worker_exceptions: Any) -> None:
            known = [e for e in worker_exceptions.values() if not is_broken(e)]
            each = (known or list(worker_exceptions.values()))[:1]
            ray.get(relay.lost.remote(str(each[0]).strip().partition("\n")[0] if each else "it is gone"))

    trainer = TorchTrainer(
        _work,
        train_loop_config={"relay": relay},
        torch_config=TorchConfig(backend="cpu:gloo,cuda:nccl" if on_gpus else "gloo"),
        scaling_config=ScalingConfig(
            # Elastic: of several workers as many as there is room for.
            num_workers=(1, workers) if workers > 1 else 1,
            use_gpu=on_gpus,
            placement_strategy="PACK" if on_gpus else "SPREAD",
        ),
        run_config=RunConfig(
            storage_path=str(storage),
            name="training",
            callbacks=[Losses()],
            failure_config=FailureConfig(max_failures=-1),  # the command counts, by what they get done
        ),
    )
    try:
        trainer.fit()
    except Exception as error:  # whatever Ray Train ends in, the command is to hear of it
        ray.get(relay.lost.remote(f"{type(error).__name__}: {error}"))
    finally:
        shutil.rmtree(storage, ignore_errors=True)


def _work(settings: dict[str, Any]) -> None:
    """Train as one of the workers."""
    import ray
    import ray.train

    relay, context = settings["relay"], ray.train.get_context()
    team = Team(context.get_world_rank(), context.get_world_size())
    hide_launcher()

    def call(name: str, *values: Any) -> Any:
        return ray.get(getattr(relay, name).remote(*values))

    def post(name: str, *values: Any) -> None:
        getattr(relay, name).remote(*values)

    places = team.gather([ray.util.get_node_ip_address(), os.getpid()])
    attempt = team.of_first(lambda: call("begin", places))
    if attempt is None:
        return
    line = Line(call, post, attempt)
    handed = Handed.read(call("handed"))
    better = handed.higher_is_better
    reporting = (
        line.reporting(measures=better is not None, higher_is_better=bool(better))
        if team.leads
        else Reporting(Silent(), measure=None if better is None else Measure(lambda folder: {}, better))
    )
    try:
        trained = train_adapter(
            handed.base,
            handed.rows,
            config=handed.config,
            folders=handed.folders,
            reporting=reporting,
            team=team,
        )
    except KeyboardInterrupt as stop:
        if team.leads:
            line.end(KeyboardInterrupt(*stop.args))
    except Exception as error:
        if not is_broken(error):
            line.end(_sent(error, team))
        raise  # only so do the others, which wait for this one, end with it
    else:
        if team.leads:
            line.end(_trained().dump_json(trained))


def _sent(error: Exception, team: Team) -> Exception:
    """Return an error as the command can raise it, whatever is installed there."""
    if isinstance(error, TuneryError | OSError):
        return error
    text = "".join(traceback.format_exception(error)).rstrip()
    return RuntimeError(f"rank {team.rank} of {team.size} failed:\n{text}")


def _trained() -> TypeAdapter[Trained]:
    return TypeAdapter(Trained)


def _follow(ray: Any, relay: Any, listener: _Listener, fitting: threading.Thread) -> None:
    """Follow the workers until they are gone."""
    stopped_at: float | None = None
    while True:
        last = not fitting.is_alive()  # looked at first: what comes behind the last message is nothing
        for message in ray.get(relay.take.remote()):
            listener.take(message)
        if last or listener.given_up:
            return
        if stopped_at is None and listener.should_stop():
            stopped_at = time.monotonic()
            ray.get(relay.stop.remote())
        if stopped_at is not None and not listener.training and time.monotonic() - stopped_at > _PATIENCE_S:
            return
        listener.waited()
        time.sleep(_POLL_S)


class _Listener:
    """What the command makes of what the workers say."""

    def __init__(self, reporting: Reporting, wanted: int, *, answer: Any) -> None:
        self.bars = ExitStack()
        self.training = False
        """Whether workers train at this moment, as far as is known."""
        self.given_up = False
        self._reporting = reporting
        self._wanted = wanted
        self._answer = answer
        self._open: list[tuple[ExitStack, ProgressBar]] = []
        self._outcome: Any = None
        self._raised: BaseException | None = None  # by whoever is reported to
        self._lost: list[str] = []  # since the last checkpoint
        self._since = time.monotonic()
        self._size = 0

    def should_stop(self) -> bool:
        return self._raised is not None or self._reporting.should_stop()

    def trained(self) -> Trained:
        """Return what came of it, or raise."""
        if self._raised is not None:
            raise self._raised
        if isinstance(self._outcome, bytes):
            return _trained().validate_json(self._outcome)
        if isinstance(self._outcome, BaseException):
            raise self._outcome
        if self._lost:
            raise ResourceError(
                f"workers of this training were lost {counted(len(self._lost), 'time')} without a checkpoint "
                f"between; at last: {self._lost[-1]:.300}",
                hint="the same command continues from the newest checkpoint; ray status shows the cluster",
            )
        raise KeyboardInterrupt

    def waited(self) -> None:
        """Say once where workers are long in coming."""
        if not self.training and self._since and time.monotonic() - self._since > _PATIENCE_S:
            self._since = 0.0
            self._reporting.progress.event(
                "waiting for the cluster, which has no room for a worker; ray status shows who has it",
                level="warn",
            )

    def take(self, message: Message) -> None:
        """Take in one message; what those who are told of it raise ends the training."""
        try:
            getattr(self, f"on_{message.kind}")(message.content)
        except Exception as error:
            self._raised = self._raised or error

    def on_began(self, workers: list[tuple[str, int]]) -> None:
        self.bars.close()
        self._open = []
        size = len(workers)
        self.training, self._since = True, 0.0
        of = "" if size == self._wanted else f" of {self._wanted}, which is what the cluster has room for"
        changed = f" in place of {self._size}" if self._size not in (0, size) else ""
        self._size = size
        self._reporting.progress.event(
            f"training on {counted(size, 'worker')}{of}{changed}",
            data={"workers": [{"node": node, "process": process} for node, process in workers]},
        )

    def on_lost(self, reason: str) -> None:
        self.training, self._since = False, time.monotonic()
        if self._outcome is not None:
            return
        self._lost.append(reason)
        self.given_up = len(self._lost) > _TRIES
        if not self.given_up:
            self._reporting.progress.event(
                f"a worker was lost, and training begins again from the newest checkpoint: {reason:.300}",
                level="warn",
            )

    def on_event(self, content: Any) -> None:
        message, level, data = content
        self._reporting.progress.event(message, level=level, data=data)

    def on_task(self, content: Any) -> None:
        stack = ExitStack()
        self.bars.push(stack)
        self._open.append((stack, stack.enter_context(self._reporting.progress.task(*content))))

    def on_advance(self, steps: float) -> None:
        if self._open:
            self._open[-1][1].advance(steps)

    def on_task_over(self, content: None) -> None:
        if self._open:
            self._open.pop()[0].close()

    def on_checkpoint(self, content: Any) -> None:
        self._lost = []
        self._reporting.on_checkpoint(*content)

    def on_point(self, content: Any) -> None:
        self._reporting.on_point(content)

    def on_measure(self, folder: str) -> None:
        try:
            found: Any = dict(self._reporting.measure.run(Path(folder))) if self._reporting.measure else {}
        except TuneryError as error:
            found = error
        self._answer(found)

    def on_over(self, outcome: Any) -> None:
        self.training, self._outcome = False, outcome
