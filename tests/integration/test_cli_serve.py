"""A server as typed: its key shown once, a recipe taken from the queue, a clean end."""

from __future__ import annotations

import csv
import json
import signal
import time
from pathlib import Path

from openai import OpenAI

from tests.fixtures_cli import Tunery, home, tunery
from tests.forked import forked

__all__ = ["home", "tunery"]

RECIPE = """\
name: tiny
goal: {{metric: exact_match}}
base: {base}
data:
  sources: [{{path: rows.csv, columns: {{input: text, output: category}}}}]
  clean: {{near_duplicates: group, group_threshold: 1.0, near_threshold: 1.0}}
  split: {{test: 4, validation: 4}}
train: {{epochs: 1, batch_size: 8, rank: 2, threads: 1}}
evaluate: {{suites_off: not tested, max_new_tokens: 4, perplexity_limit: 4, baseline: {{few_shot: false}}}}
gate: {{rules: [{{metric: exact_match, at_least: 0.0}}]}}
"""


def test_a_queued_recipe_is_taken_and_its_model_answers(
    tunery: Tunery, home: Path, tmp_path: Path, tiny_model: Path
) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(RECIPE.format(base=tiny_model), encoding="utf-8")
    with (tmp_path / "rows.csv").open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows(
            [("text", "category"), *((f"question {i}", "abc"[i % 3]) for i in range(30))]
        )
    job = tunery("jobs", "start", recipe, "--json").json
    with forked(["serve", "--port", 0, "--base", tiny_model, "--json"], tmp_path) as server:
        while "\n}" not in server.text:
            assert server.poll() is None, server.text
            time.sleep(0.02)
        key = server.text.partition("\n")[0].rpartition(" ")[2]
        url = json.loads(server.text[server.text.index("{") : server.text.index("\n}") + 2])["url"]
        followed = tunery("jobs", "status", job["id"], "--follow", "--json").json
        assert followed["status"] == "succeeded", followed
        assert followed["model_version"] == "tiny@1"
        with OpenAI(base_url=url, api_key=key, max_retries=0, timeout=60) as client:
            reply = client.chat.completions.create(
                model="tiny", messages=[{"role": "user", "content": "question 1"}], max_tokens=4
            )
            assert reply.model
        server.signal(signal.SIGTERM)
        code, told = server.end(60)
    assert code == 143
    assert "Traceback" not in told
    assert told.count(key) == 1
    assert tunery("registry", "ls", "--json").json[0]["aliases"] == ["champion"]
