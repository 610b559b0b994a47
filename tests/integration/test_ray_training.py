"""Training on a Ray cluster of two nodes gives what one process gives, also where workers die."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.unit.train.test_ranks import DATA, SFT, close, history, train
from tunery.core.errors import ConfigError
from tunery.core.progress import Level, Silent
from tunery.core.training import BaseModelInfo
from tunery.model.bases import describe_base
from tunery.train.reporting import Measure, Reporting
from tunery.train.together import train_together
from tunery.train.training import Folders, Trained

ray = pytest.importorskip("ray")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("default"),  # Ray's own start-up warns
    pytest.mark.timeout(300),
]
HERE = SFT.model_copy(update={"epochs": 8, "learning_rate": 0.002})
ON_RAY = HERE.model_copy(update={"engine": "ray"})


class Followed(Silent):
    """Keeps what is reported and calls the test's function with it."""

    def __init__(self, look: Any) -> None:
        self.lines: list[str] = []
        self.workers: list[int] = []
        self.look = look

    def event(self, message: str, *, level: Level = "info", data: Mapping[str, Any] | None = None) -> None:
        self.lines.append(message)
        if data and "workers" in data:
            self.workers = [worker["process"] for worker in data["workers"]]
        self.look(self, message)


@pytest.fixture(scope="module")
def base(tiny_model: Path) -> BaseModelInfo:
    return describe_base(tiny_model, name="tiny")


@pytest.fixture
def cluster() -> Iterator[Any]:
    from ray.cluster_utils import Cluster

    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    made.add_node(num_cpus=1)
    made.add_node(num_cpus=1)
    ray.init(address=made.address, log_to_driver=False)
    yield made
    ray.shutdown()
    made.shutdown()


def on_ray(
    base: BaseModelInfo, folder: Path, progress: Followed, *, config: Any = ON_RAY, **reporting: Any
) -> Trained:
    folder.mkdir(exist_ok=True)
    folders = Folders(folder, folder / "checkpoints")
    return train_together(
        base, DATA, config=config, folders=folders, reporting=Reporting(progress, **reporting)
    )


def quiet(followed: Followed, message: str) -> None:
    """Look at nothing."""


def test_two_nodes_train_what_one_process_trains_and_a_killed_worker_is_made_up_for(
    base: BaseModelInfo, tmp_path: Path, cluster: Any
) -> None:
    one = history(train(base, tmp_path / "one", config=HERE))
    whole = Followed(quiet)
    points: list[Any] = []
    saved: list[int] = []
    trained = on_ray(
        base,
        tmp_path / "whole",
        whole,
        on_point=points.append,
        on_checkpoint=lambda step, losses: saved.append(step),
    )
    close(history(trained), one, within=1e-4)
    assert "training on 2 workers" in whole.lines
    assert len(set(whole.workers)) == 2
    assert len(points) == len([p for p in trained.history if p.train_loss]) + len(saved)
    assert not list((tmp_path / "whole" / "checkpoints").glob(".ray*"))

    killed: list[int] = []

    def kill(followed: Followed, message: str) -> None:
        if message.startswith("Step 4/") and not killed:
            killed.append(followed.workers[1])
            os.kill(followed.workers[1], signal.SIGKILL)

    disturbed = Followed(kill)
    assert history(on_ray(base, tmp_path / "killed", disturbed)) == history(trained)
    assert killed
    assert any("a worker was lost" in line for line in disturbed.lines)
    assert any(line.startswith("continuing from step ") for line in disturbed.lines)


def test_workers_that_share_the_weights_train_what_one_process_trains(
    base: BaseModelInfo, tmp_path: Path, cluster: Any
) -> None:
    config = SFT.model_copy(update={"adapter": "none", "learning_rate": 0.001})
    one = history(train(base, tmp_path / "one", config=config))
    sharded = config.model_copy(update={"engine": "ray", "sharding": "fsdp"})
    close(history(on_ray(base, tmp_path / "two", Followed(quiet), config=sharded)), one, within=1e-4)


def test_a_lost_node_leaves_fewer_workers_and_that_is_reported(
    base: BaseModelInfo, tmp_path: Path, cluster: Any
) -> None:
    one = history(train(base, tmp_path / "one", config=HERE))

    def lose(followed: Followed, message: str) -> None:
        if message.startswith("Step 4/") and len(cluster.worker_nodes) == 2:
            cluster.remove_node(cluster.worker_nodes.copy().pop(), allow_graceful=False)

    followed = Followed(lose)
    close(history(on_ray(base, tmp_path / "elastic", followed)), one, within=1e-4)
    assert "training on 1 worker of 2, which is what the cluster has room for in place of 2" in followed.lines
    assert any(
        line.startswith("continuing from step") and line.endswith(", on 1 rank in place of 2")
        for line in followed.lines
    )


def test_a_stop_saves_a_checkpoint_and_an_error_of_a_worker_is_raised_as_it_is(
    base: BaseModelInfo, tmp_path: Path, cluster: Any
) -> None:
    followed = Followed(quiet)
    with pytest.raises(KeyboardInterrupt, match="the same command continues from there"):
        on_ray(
            base,
            tmp_path / "stopped",
            followed,
            should_stop=lambda: any(line.startswith("Step 2/") for line in followed.lines),
        )
    assert list((tmp_path / "stopped" / "checkpoints").glob("checkpoint-*"))

    again = Followed(quiet)
    measured: list[Path] = []

    def measure(folder: Path) -> dict[str, float]:
        measured.append(folder)
        return {"accuracy": float(len(measured))}

    trained = on_ray(base, tmp_path / "stopped", again, measure=Measure(measure, higher_is_better=True))
    assert any(line.startswith("continuing from step") for line in again.lines)
    judged = [p.metrics["validation/accuracy"] for p in trained.history if p.validation_loss is not None]
    assert judged[-len(measured) :] == [float(i + 1) for i in range(len(measured))]
    wrong = ON_RAY.model_copy(update={"target_modules": ("nothing",)})
    with pytest.raises(ConfigError, match="fits no linear layer"):
        on_ray(base, tmp_path / "wrong", Followed(quiet), config=wrong)
