"""A run writes settings, losses, verdict and report to MLflow, Weights & Biases and TensorBoard."""

from __future__ import annotations

import json
import threading
from collections.abc import Collection
from pathlib import Path

import pytest

from tunery.core.progress import Silent
from tunery.pipeline.context import RunContext
from tunery.pipeline.loop import run_recipe
from tunery.pipeline.recipe import parse_recipe
from tunery.store.workspace import Workspace

COLOURS = ("red", "blue", "green", "grey", "pink", "black", "white", "brown")
THINGS = ("car", "door", "hat", "cup", "pen")


def wait_for_trackers(others: Collection[threading.Thread], within_s: float = 100) -> None:
    """Return when every tracker but those of other tests has taken what it was given.

    The end of a run waits for them no longer than ``LAST_S``, which a busy machine can need for the tables of
    a new MLflow database alone: what is on its way then goes on behind the run.
    """
    for thread in threading.enumerate():
        if thread.name.startswith("track ") and thread not in others:
            thread.join(within_s)
            assert not thread.is_alive(), f"{thread.name} did not end"


@pytest.mark.filterwarnings("ignore")  # three libraries' own
def test_a_run_is_told_to_the_trackers_that_its_recipe_names(
    workspace: Workspace, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow.tracking import MlflowClient
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    monkeypatch.setenv("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    monkeypatch.chdir(tmp_path)
    rows = [{"q": f"The {colour} {thing}?", "a": colour} for colour in COLOURS for thing in THINGS]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    recipe = parse_recipe(
        {
            "name": "colours",
            "goal": {"metric": "exact_match", "target": 0.0, "min_gain_over_prompting": 0.0},
            "base": str(tiny_model),
            "data": {
                "sources": [{"path": "rows.jsonl", "columns": {"input": "q", "output": "a"}}],
                "system_prompt": "Answer with key sk-proj-aB3dE6gH9jK2mN5pQ8sT1vW4yZ7bC0eF.",
                "split": {"test": 8, "validation": 4},
            },
            "train": {"epochs": 1, "batch_size": 8, "device": "cpu"},
            "evaluate": {
                "suites_off": "not tested here",
                "max_new_tokens": 2,
                "baseline": {"few_shot": False, "perplexity": False},
            },
            "track": {"mlflow": {"uri": uri}, "wandb": {}, "tensorboard": {}, "adapter": True},
        },
        where="test",
    )
    others = threading.enumerate()  # one that waits for a server which is not there may go on for minutes
    run = run_recipe(RunContext(recipe, workspace, tmp_path, Silent()))
    wait_for_trackers(others)
    adapter = workspace.adapters.get(run.adapter_id or "")
    losses = [(point.step, point.train_loss) for point in adapter.history]

    client = MlflowClient(tracking_uri=uri)
    experiment = client.get_experiment_by_name("colours")
    (told,) = client.search_runs([experiment.experiment_id])
    assert told.info.status == "FINISHED"
    history = client.get_metric_history(told.info.run_id, "train/train_loss")
    assert [(m.step, m.value) for m in history] == losses
    assert told.data.params["train.learning_rate"] == str(adapter.config["learning_rate"])
    assert told.data.params["data.sources.0.path"] == "rows.jsonl"
    assert "sk-proj" not in str(told.data.params)
    assert told.data.tags["dataset_version"] == run.dataset_version
    assert told.data.tags["status"] == run.status
    assert "evaluate/tuned/exact_match" in told.data.metrics
    files = {f.path for f in client.list_artifacts(told.info.run_id)}
    assert Path(run.report or "").name in files
    assert adapter.id in files

    folder = workspace.root / "track" / run.id
    events = EventAccumulator(str(folder / "tensorboard")).Reload()
    scalars = [(e.step, pytest.approx(e.value, rel=1e-6)) for e in events.Scalars("train/train_loss")]
    assert scalars == losses
    (offline,) = (folder / "wandb").glob(f"offline-run-*{run.id}")
    (written,) = offline.glob("*.wandb")
    assert b"train/train_loss" in written.read_bytes()
