"""The same dataset version from a cluster of three nodes as from one process, also when a node is lost."""

from __future__ import annotations

import csv
import random
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tunery.core.config import parse_settings
from tunery.core.dataset import DatasetVersion
from tunery.data.build import build_dataset
from tunery.data.config import DataConfig
from tunery.store.workspace import Workspace

ray = pytest.importorskip("ray")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("default"),  # Ray's own start-up warns
    pytest.mark.timeout(300),
]
ROWS = 60_000


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixty thousand questions in twelve chunks, some of them one word apart."""
    folder = tmp_path_factory.mktemp("rows")
    draw = random.Random(0)
    words = [f"{a}{b}" for a in "bcdfghklmnprst" for b in ("ard", "ent", "osit", "ink", "orry")]
    made: list[list[str]] = []
    with (folder / "rows.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["text", "category"])
        for i in range(ROWS):
            text = draw.choices(words, k=14)
            if made and i % 3 == 0:
                text = list(draw.choice(made))
                text[draw.randrange(len(text))] = draw.choice(words)
            made.append(text)
            writer.writerow([" ".join(text), f"class {i % 7}"])
    return folder


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    from ray.cluster_utils import Cluster

    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    made.add_node(num_cpus=1)
    made.add_node(num_cpus=1)
    ray.init(address=made.address, log_to_driver=False)
    yield made
    ray.shutdown()
    made.shutdown()


def build(rows: Path, home: Path, engine: str) -> DatasetVersion:
    settings = {
        "sources": [{"path": "rows.csv", "columns": {"input": "text", "output": "category"}}],
        "engine": engine,
    }
    workspace = Workspace.open(home)
    config = parse_settings(DataConfig, settings, where="data")
    try:
        return build_dataset(config, workspace, name="rows", base_dir=rows)
    finally:
        workspace.close()


def test_a_cluster_that_loses_a_node_gives_the_version_of_one_process(
    rows: Path, tmp_path: Path, cluster: Any
) -> None:
    here = build(rows, tmp_path / "here", "local")
    there = build(rows, tmp_path / "there", "ray")
    assert there.id == here.id
    assert there.content_sha256 == here.content_sha256
    assert there.dropped == here.dropped

    before = len([n for n in ray.nodes() if n["Alive"]])
    lost: list[float] = []
    killer = threading.Thread(target=_lose_a_node, args=(cluster, lost))
    killer.start()
    again = build(rows, tmp_path / "again", "ray")
    finished = time.monotonic()
    killer.join()
    assert lost[0] < finished
    assert again.content_sha256 == here.content_sha256
    assert again.id == here.id
    deadline = time.monotonic() + 60
    while len([n for n in ray.nodes() if n["Alive"]]) == before and time.monotonic() < deadline:
        time.sleep(0.5)
    assert len([n for n in ray.nodes() if n["Alive"]]) == before - 1


def _lose_a_node(cluster: Any, lost: list[float]) -> None:
    time.sleep(1.0)
    lost.append(time.monotonic())
    cluster.remove_node(cluster.worker_nodes.copy().pop(), allow_graceful=False)
