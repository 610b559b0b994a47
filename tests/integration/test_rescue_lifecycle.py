"""From an account with two fine-tuned models, the file of one deleted, to the old name answered here.

In the slow variants every command is a process of its own, in one of them first killed in the middle, the
server at each stage too; the quick one calls the same commands in this process, on fewer rows.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import openai
import pytest

from tests.doubles.openai_source import KEY, OpenAISource, chat_row, serving
from tests.fixtures_cli import Tunery, home, tunery
from tests.integration.live_api import live
from tunery.rescue.folder import RescueFolder
from tunery.store.workspace import Workspace

__all__ = ["home", "tunery"]

AB1 = "ft:gpt-4o-mini-2024-07-18:acme::Ab1"
CD2 = "ft:gpt-4.1-mini-2025-04-14:acme::Cd2"
WORDS = ["lost", "late", "found", "broken", "heavy", "small"]
KINDS = ["red", "blue"]


def prompt(n: int) -> str:
    return f"{KINDS[n % 2]} {WORDS[n % 6]} {WORDS[n // 6 % 6]} {n}"


def say(body: Mapping[str, Any]) -> str:
    return str(body["messages"][-1]["content"]).split()[0]


ROWS = 160
QUICK_ROWS = 60
SETTINGS = [
    "train.learning_rate=0.005", "train.batch_size=8", "train.early_stopping=null",
    "train.adapter=none", "evaluate.baseline.few_shot=false",
]  # fmt: skip


@pytest.fixture
def source(request: pytest.FixtureRequest) -> Iterator[OpenAISource]:
    count = getattr(request, "param", ROWS)
    rows = [chat_row(prompt(n), KINDS[n % 2]) for n in range(count)]
    account = OpenAISource(say=say)
    account.add_fine_tune("Ab1", rows, shutdown_date="2027-01-14")
    account.add_fine_tune("Cd2", rows, base="gpt-4.1-mini-2025-04-14")
    account.delete_file("file-trainCd2")
    with serving(account):
        yield account
    assert account.writes == set()


class Shell:
    """A user's shell: commands in a home of their own, each killed once before it may end.

    Args:
        kill: Whether they are.
    """

    def __init__(self, home: Path, *, kill: bool) -> None:
        self.home, self.kill = home, kill
        self.env = {**os.environ, "TUNERY_HOME": str(home), "OPENAI_KEY": KEY, "OMP_NUM_THREADS": "1"}
        self.env.pop("TUNERY_DATABASE_URL", None)

    def start(self, *words: object, **more: Any) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "tunery", *map(str, words)]
        return subprocess.Popen(command, env=self.env, text=True, **more)

    def __call__(self, *words: object, after_s: float = 0.7) -> Any:
        """Run a command to its end and return what it prints with ``--json``."""
        if self.kill:
            process = self.start(*words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            time.sleep(after_s)
            process.send_signal(signal.SIGKILL)
            process.wait()
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        with self.start(*words, "--json", **pipes) as process:
            out, err = process.communicate(timeout=200)
        assert process.returncode == 0, err
        return json.loads(out)


def walked(shell: Shell, source: OpenAISource, tiny_model: Path, tmp_path: Path) -> None:
    """Go the whole way."""
    shell("rescue", "inventory", "--scope", f"base-url={source.url},key-env=OPENAI_KEY")
    fetched = shell("rescue", "fetch")["fetched"]
    assert "file-trainCd2" in json.dumps(fetched["gone"])
    before = {each["model"]: each for each in shell("rescue", "status")["status"]["models"]}
    assert any("its answers, all of them" in loss for loss in before[AB1]["lost_today"])
    logs = tmp_path / "log.jsonl"
    logs.write_text("".join(json.dumps({"prompt": prompt(n)}) + "\n" for n in range(200, 260)))
    slowly = ["--requests-per-minute", "6000"]
    shell("rescue", "record", AB1, "--terms-read", "--yes", *slowly, after_s=1.6)
    shell("rescue", "record", CD2, "--yes", "--prompts", logs, *slowly, after_s=1.6)
    folder = RescueFolder(shell.home, "openai")
    assert [len(list(folder.recordings(model))) for model in (AB1, CD2)] == [160, 60]
    # No prompt is bought twice but for what was in flight at a kill, and twenty that are asked again.
    in_flight = 8 if shell.kill else 0
    assert len(source.completions) <= 160 + 60 + 2 * (20 + in_flight)
    shell("rescue", "recipe", AB1, "--base", tiny_model, "--margin", "0.1")
    proof = shell("rescue", "run", AB1, "train.epochs=12", *SETTINGS, after_s=9)["proof"]
    assert proof["status"] == "succeeded", proof["verdict"]
    for stage, old_answers in (("forward", 1), ("canary", 1), ("ours", 0)):
        share = ("--share", "0.1") if stage == "canary" else ()
        shell("rescue", "serve", AB1, "--to", stage, *share)
        for _ in range(1 + shell.kill):  # killed, and started again
            before_it = len(source.completions)
            assert answered(shell, tiny_model) == "blue"
            assert len(source.completions) - before_it == old_answers
    after = {each["model"]: each for each in shell("rescue", "status")["status"]["models"]}
    assert after[AB1]["lost_today"] == []
    assert (after[AB1]["stage"], after[AB1]["version"]) == ("ours", proof["version"])
    assert any("no model of ours" in loss for loss in after[CD2]["lost_today"])


def answered(shell: Shell, tiny_model: Path) -> str:
    """Serve, ask under the old name as an unmodified client does, and return the answer."""
    words = ["serve", f"base={tiny_model}", "port=0", "auth=false", "run_jobs=false"]
    process = shell.start(*words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    try:
        assert process.stdout is not None
        written = (word for line in process.stdout for word in line.split())
        address = next(word for word in written if word.startswith("http://")).rstrip(".,")
        with openai.OpenAI(base_url=f"{address.removesuffix('/v1')}/v1", api_key="any") as client:
            ask: Any = [{"role": "user", "content": prompt(301)}]
            made = client.chat.completions.create(model=AB1, messages=ask, max_tokens=8, user="one")
        assert made.model == AB1
        return made.choices[0].message.content or ""
    finally:
        (process.kill if shell.kill else process.terminate)()
        process.communicate(timeout=30)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("kill", [False, True])
def test_two_fine_tunes_come_home(source: OpenAISource, tiny_model: Path, tmp_path: Path, kill: bool) -> None:
    shell = Shell(tmp_path / "home", kill=kill)
    walked(shell, source, tiny_model, tmp_path)


@pytest.mark.parametrize("source", [QUICK_ROWS], indirect=True)
def test_each_command_of_the_way_home_goes_on_from_the_one_before(
    source: OpenAISource, tunery: Tunery, home: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def call(*words: object, code: int = 0) -> Any:
        done = tunery("rescue", *words, "--json")
        assert done.code == code, done.err
        return done.json

    monkeypatch.setenv("OPENAI_KEY", KEY)
    call("inventory", "--scope", f"base-url={source.url},key-env=OPENAI_KEY")
    assert "file-trainCd2" in json.dumps(call("fetch")["fetched"]["gone"])
    call("record", AB1, "--terms-read", "--yes")
    assert len(source.completions) == QUICK_ROWS + 20  # these are asked twice, for the old model's own noise
    call("recipe", AB1, "--base", tiny_model, "--margin", "0.5")
    proof = call("run", AB1, "train.epochs=6", *SETTINGS)["proof"]
    assert proof["status"] == "succeeded", proof["verdict"]
    asked = len(source.completions)
    for stage in ("forward", "canary", "ours", "alone"):
        assert call("serve", AB1, "--to", stage)["stage"] == stage
    found = {each["model"]: each for each in call("status")["status"]["models"]}
    assert (found[AB1]["lost_today"], found[AB1]["version"]) == ([], proof["version"])
    with closing(Workspace.open(home)) as workspace, live(workspace, tiny_model) as here:
        ask: Any = [{"role": "user", "content": prompt(301)}]
        made = here.client().chat.completions.create(model=AB1, messages=ask, max_tokens=8)
        assert (made.model, made.choices[0].message.content) == (AB1, "blue")
    assert len(source.completions) == asked
