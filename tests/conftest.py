"""Fixtures that every test may use: a real tiny model, adapters on it, an open workspace."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

os.environ.setdefault("OMP_NUM_THREADS", "1")  # tiny models lose by threading
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TORCHDYNAMO_DISABLE"] = "1"  # nothing is compiled, and what could takes each process a second

from tests.tiny.build import build_adapter, build_tiny

# What is compiled is kept, whatever the environment says: else every worker, and every process that a test
# starts, compiles all of it anew, which takes longer than most of what they are started for.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

gc.disable()  # until all is collected: what modules and their tests are made of is no garbage

# How long drawing an example takes says something about who else uses the cores, nothing about the code.
settings.register_profile("tunery", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("tunery")

if (Path(__file__).parent / "fixtures_workspace.py").exists():
    pytest_plugins = ["tests.fixtures_workspace"]


def pytest_collection_finish(session: pytest.Session) -> None:
    """Let the collector leave alone what lives as long as the process: libraries, and the tests themselves.

    Every training collects garbage, and looking through all of that took it a quarter of a second each time.
    """
    gc.enable()
    gc.collect()
    gc.freeze()


@pytest.hookimpl(wrapper=True, trylast=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> Iterator[None]:
    """Let it leave alone what a file's tests loaded and the libraries keep, too."""
    yield
    if nextitem is None or nextitem.path != item.path:
        gc.collect()
        gc.freeze()


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Hugging Face folder: a 2-layer Llama from seed 0 with a ChatML template."""
    return build_tiny(tmp_path_factory.mktemp("tiny") / "tiny-llama")


@pytest.fixture(scope="session")
def tiny_adapters(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """LoRA, rank-stabilised LoRA and DoRA folders on the tiny model, each with random weights of its own."""
    root = tmp_path_factory.mktemp("adapters")
    kinds: dict[str, dict[str, bool]] = {"a": {}, "b": {"use_rslora": True}, "c": {"use_dora": True}}
    return {
        name: build_adapter(tiny_model, root / name, seed=seed, **kind)
        for seed, (name, kind) in enumerate(kinds.items(), 1)
    }


@pytest.fixture(scope="session")
def embedded_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh home whose ``models`` is shared with the checkout's own, so that conversion happens once."""
    from tunery.core.progress import Silent
    from tunery.model.embedded import install_embedded

    models = Path(__file__).parents[1] / ".tunery" / "models"
    models.mkdir(parents=True, exist_ok=True)
    install_embedded(models, progress=Silent())
    home = tmp_path_factory.mktemp("home")
    (home / "models").symlink_to(models)
    return home
