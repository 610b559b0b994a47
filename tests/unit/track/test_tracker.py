"""Trackers get everything in order; one that fails, hangs or is missing costs a warning, never the run."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from tests.plugins import add_plugin
from tunery.core.progress import Level, Silent
from tunery.track import tracker as tracking
from tunery.track.config import TrackConfig, settings_of_sinks, sink_kinds
from tunery.track.sinks.mlflow import MlflowSettings
from tunery.track.sinks.sink import TrackedRun
from tunery.track.tracker import Tracker, Untracked, open_tracker

SINKS = "tunery.track.sinks"
PLAIN = '''
from tunery.core.config import Settings
from tunery.track.sinks.sink import SinkKind

TAKEN = []
FAILS = []


class PlainSettings(Settings):
    """Keeps everything in a list."""

    word: str = "x"
    """Put before everything."""


class Plain:
    def __init__(self, settings, run):
        self._take("open", settings.word, run.id)

    def _take(self, *what):
        if FAILS:
            raise FAILS.pop()
        TAKEN.append(what)

    def log(self, step, metrics):
        self._take("log", step, dict(metrics))

    def tag(self, tags):
        self._take("tag", dict(tags))

    def file(self, path):
        self._take("file", path.name)

    def close(self, status):
        self._take("close", status)


SINK = SinkKind("Plain", PlainSettings, Plain, extra="plain")
'''


class Heard(Silent):
    def __init__(self) -> None:
        self.warnings: list[str] = []

    def event(self, message: str, *, level: Level = "info", data: object = None) -> None:
        assert threading.current_thread() is threading.main_thread()
        self.warnings.append(message)


def tracked(folder: Path) -> TrackedRun:
    return TrackedRun(
        "run-0123456789abcdef", "bot", {"train.rank": 16, "base": "tiny"}, {"base": "tiny"}, folder
    )


def opened(config: TrackConfig, folder: Path, heard: Heard, *, last_s: float = 5.0) -> Tracker:
    return open_tracker(config, lambda: tracked(folder), heard, last_s=last_s)


@pytest.fixture
def plain(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> TrackConfig:
    """A recipe's section with a throw-away sink: one file in a folder, known to nothing else."""
    add_plugin(monkeypatch, tmp_path / "sinks", SINKS, name="plain", source=PLAIN)
    monkeypatch.setattr(tracking, "_WAITS_S", (0.0, 0.01))
    return settings_of_sinks("tests").model_validate({"plain": {"word": "hello"}})


def module_of(config: TrackConfig) -> object:
    import importlib

    return importlib.import_module(f"{SINKS}.plain")


def test_a_further_sink_is_one_file_and_gets_everything_in_order(plain: TrackConfig, tmp_path: Path) -> None:
    heard = Heard()
    tracker = opened(plain, tmp_path, heard)
    for step in (1, 2, 3):
        tracker.log(step, {"train/loss": 1 / step})
    tracker.tag({"gate": "passed"})
    tracker.file(tmp_path / "report.html")
    tracker.close("finished")
    assert [  # type: ignore[attr-defined]
        ("open", "hello", "run-0123456789abcdef"),
        *(("log", step, {"train/loss": 1 / step}) for step in (1, 2, 3)),
        ("tag", {"gate": "passed"}),
        ("file", "report.html"),
        ("close", "finished"),
    ] == module_of(plain).TAKEN
    assert heard.warnings == []


def test_a_sink_that_comes_back_misses_nothing_and_is_warned_of_once(
    plain: TrackConfig, tmp_path: Path
) -> None:
    module, heard = module_of(plain), Heard()
    module.FAILS.append(ConnectionError("refused"))  # type: ignore[attr-defined]
    tracker = opened(plain, tmp_path, heard)
    tracker.log(1, {"a": 1.0})
    tracker.close("stopped")
    assert [entry[0] for entry in module.TAKEN] == ["open", "log", "close"]  # type: ignore[attr-defined]
    assert heard.warnings == [
        "Plain cannot be written to (ConnectionError: refused); the run goes on without it"
    ]


def test_what_a_sink_refuses_for_good_is_left_out_and_counted(plain: TrackConfig, tmp_path: Path) -> None:
    module, heard = module_of(plain), Heard()
    tracker = opened(plain, tmp_path, heard)
    tracker.log(1, {"a": 1.0})
    until = time.monotonic() + 5
    while len(module.TAKEN) < 2 and time.monotonic() < until:  # type: ignore[attr-defined]
        time.sleep(0.01)
    module.FAILS += [ValueError("too long")] * 2  # type: ignore[attr-defined]
    tracker.tag({"b": "c"})
    tracker.log(2, {"a": 2.0})
    tracker.close("finished")
    assert [entry[0] for entry in module.TAKEN] == ["open", "log", "log", "close"]  # type: ignore[attr-defined]
    assert heard.warnings[-1] == "Plain did not take 1 entry of this run (ValueError: too long)"


def test_a_sink_that_hangs_delays_the_end_by_the_time_allowed_and_nothing_else(
    plain: TrackConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard, release = Heard(), threading.Event()
    monkeypatch.setattr(module_of(plain).Plain, "log", lambda *_: release.wait(30))  # type: ignore[attr-defined]
    tracker = opened(plain, tmp_path, heard, last_s=0.2)
    started = time.monotonic()
    for step in range(1000):
        tracker.log(step, {"a": 1.0})
    assert time.monotonic() - started < 0.2
    tracker.close("finished")
    assert time.monotonic() - started < 5
    assert heard.warnings == ["Plain did not take 1,001 entries of this run (it did not answer in time)"]
    release.set()


def test_a_tracker_that_is_not_there_ends_no_run(tmp_path: Path) -> None:
    heard = Heard()
    config = TrackConfig.model_validate({"mlflow": MlflowSettings(uri="http://127.0.0.1:9")})
    tracker = opened(config, tmp_path, heard, last_s=0.3)
    tracker.log(1, {"a": 1.0})
    tracker.close("finished")
    assert heard.warnings[-1].startswith("MLflow did not take 2 entries of this run")


def test_a_sink_whose_package_is_missing_is_named_with_what_installs_it(
    plain: TrackConfig, tmp_path: Path
) -> None:
    module, heard = module_of(plain), Heard()
    module.FAILS += [ModuleNotFoundError("No module named 'plain'")] * 9  # type: ignore[attr-defined]
    tracker = opened(plain, tmp_path, heard)
    tracker.close("finished")
    assert 'pip install "tunery[plain]"' in heard.warnings[0]


def test_no_sink_is_on_unless_named() -> None:
    assert isinstance(open_tracker(TrackConfig(), lambda: pytest.fail("not needed"), Silent()), Untracked)


def test_every_sink_declares_an_extra_that_exists_and_defaults_for_all_its_settings() -> None:
    import tomllib

    project = tomllib.loads((Path(__file__).parents[3] / "pyproject.toml").read_text(encoding="utf-8"))
    for name, kind in sink_kinds().items():
        assert kind.extra in project["project"]["optional-dependencies"], name
        kind.settings()
