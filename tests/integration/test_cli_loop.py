"""The loop as typed: run, evaluate on another file, compare, plan, refuse; on the tiny model."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import re
import shutil
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tunery.cli.main import execute
from tunery.core.ids import sha256_file
from tunery.store.dataset_files import read_examples

QUESTIONS = {
    "card arrival": ("when will my card arrive", "is my card in the post"),
    "exchange rate": ("what is the exchange rate", "which rate do you use"),
    "top up failed": ("why did my top up fail", "topping up does not work"),
}
RECIPE = """\
name: tiny
goal: {{metric: exact_match, target: 0.0, min_gain_over_prompting: 0.0}}
base: {base}
data:
  sources:
    - path: rows.csv
      columns: {{input: text, output: category}}
  system_prompt: Name the intent.
  clean: {{near_duplicates: group, group_threshold: 1.0, near_threshold: 1.0}}
  split: {{test: 9, validation: 6}}
train: {{epochs: 2, batch_size: 8, learning_rate: 0.01, rank: 4, threads: 1, validation_every: 4}}
evaluate: {{suites_off: not tested here, max_new_tokens: 6, perplexity_limit: 4, baseline: {{shots: 2}}}}
gate:
  rules: [{{metric: exact_match, at_least: 0.0}}]
"""


class Done(NamedTuple):
    """A finished call."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The one JSON value on stdout."""
        return json.loads(self.out)


class Loop(NamedTuple):
    """A recipe that was run, and how to call the command line on its workspace."""

    recipe: Path
    home: Path
    run: dict[str, Any]

    def call(self, *arguments: object) -> Done:
        """Call the command line."""
        return call(self.home, *arguments)


def call(home: Path, *arguments: object) -> Done:
    """Call the command line in process, wherever in a test's life that is."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = execute(["--home", str(home), *map(str, arguments)])
    return Done(code, out.getvalue(), err.getvalue())


def write_rows(path: Path, each: int, *, start: int = 0) -> None:
    """Write rows of every class, numbered so that none repeats another."""
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(("text", "category"))
        for i in range(start, start + each):
            for label, texts in QUESTIONS.items():
                writer.writerow((f"{texts[i % 2]} {i}", label))


@pytest.fixture(scope="module")
def loop(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Loop:
    """Run the recipe once for all tests here."""
    folder = tmp_path_factory.mktemp("loop")
    write_rows(folder / "rows.csv", 20)
    recipe = folder / "tiny.yaml"
    recipe.write_text(RECIPE.format(base=tiny_model), encoding="utf-8")
    done = call(folder / "home", "run", recipe, "--json")
    assert done.code == 0, done.err
    return Loop(recipe, folder / "home", done.json)


def test_a_run_prints_one_object_with_every_number_the_verdict_rests_on(loop: Loop) -> None:
    run = loop.run
    assert run["dataset_version"].startswith("ds-")
    assert run["model_version"] == "tiny@1"
    assert Path(run["report"]).is_file()
    assert {"data", "baseline", "train", "evaluate"} <= run["seconds"].keys()
    assert {"zero_shot", "few_shot"} <= run["baselines"].keys()
    for subject in (*run["baselines"].values(), run["tuned"]):
        assert subject["metric"] == "exact_match"
        assert subject["n"] == 9
        low, high = subject["ci95"]
        assert 0 <= low <= subject["value"] <= high <= 1
    assert run["gate"]["passed"] is True
    assert [rule["passed"] for rule in run["gate"]["rules"]] == [True]
    against = run["baselines"]["zero_shot"]["tuned_against_it"]
    assert against["difference"] == pytest.approx(
        run["tuned"]["value"] - run["baselines"]["zero_shot"]["value"]
    )


def test_run_again_finds_everything_made(loop: Loop) -> None:
    again = loop.call("run", loop.recipe, "--json")
    assert again.code == 0
    assert again.json == loop.run
    assert "finished already" in again.err


def test_a_person_reads_results_gate_verdict_and_what_to_type_next(loop: Loop) -> None:
    text = loop.call("runs", "show", loop.run["run"]).out
    for words in (
        "Zero-shot prompting",
        "Tuned",
        "95 % interval",
        "✓",
        "tiny@1 is registered",
        "tunery serve",
    ):
        assert words in text
    assert loop.run["run"] in loop.call("runs", "ls").out


def test_a_refused_model_is_told_in_full_and_ends_with_5(loop: Loop) -> None:
    refused = loop.call("run", loop.recipe, "gate.rules=[{metric: exact_match, at_least: 1.0}]", "--json")
    assert refused.code == 5
    assert refused.json["status"] == "refused"
    assert refused.json["gate"]["passed"] is False
    assert refused.json["model_version"] is None
    assert refused.json["tuned"]["n"] == 9
    error = json.loads(refused.err.splitlines()[-1])["error"]
    assert error["code"] == "gate_failed"
    assert refused.json["gate"]["rules"][0]["sentence"] in error["message"]
    assert loop.call("registry", "ls", "--json").json[0]["version"] == 1


def test_a_refused_model_can_be_looked_at_but_nothing_points_at_it(loop: Loop) -> None:
    stricter = "gate.rules=[{metric: exact_match, at_least: 1.0}]"
    refused = loop.call("run", loop.recipe, stricter, "name=wish", "--json").json
    made = loop.call("registry", "register", refused["run"], "--json").json
    assert (made["name"], made["version"], made["gate_passed"]) == ("wish", 1, False)
    assert loop.call("registry", "register", refused["run"], "--json").json["version"] == 1
    assert loop.call("registry", "show", "wish").code == 3  # the name alone means nothing yet
    looked = loop.call("evaluate", "run", loop.recipe, "--model", "wish@1", "--json")
    assert looked.code == 0, looked.err
    assert loop.call("deploy", "promote", "wish@1").code == 5
    assert loop.call("registry", "promote", "wish@1", "--override-gate").code == 2
    assert loop.call("registry", "register", refused["run"], "--override", "--by", "Ann").code == 2
    why = ("--override", "--by", "Ann Chu", "--reason", "the demo | of Friday", "--json")
    answered = loop.call("registry", "register", refused["run"], *why)
    assert answered.code == 0, answered.err
    assert answered.json["overrides"][0]["by"] == "Ann Chu"
    said = "overridden by Ann Chu"
    assert said in loop.call("registry", "card", "wish@1").out
    for format in ("html", "json", "junit", "markdown"):
        assert said in loop.call("evaluate", "report", refused["run"], "--format", format).out
    assert said in Path(refused["report"]).read_text("utf-8"), "the page that was there is written again"
    assert loop.call("registry", "promote", "wish@1").code == 0
    assert loop.call("registry", "show", "wish").code == 0
    assert loop.call("registry", "register", "run-0123456789abcdef").code == 3


def test_another_file_is_evaluated_row_by_row_and_two_answers_are_compared(
    loop: Loop, tmp_path: Path
) -> None:
    write_rows(tmp_path / "other.csv", 4, start=100)
    files = {}
    for model in ("tiny@1", "base"):
        files[model] = tmp_path / f"{model}.jsonl"
        arguments = ["--model", model, "--test", tmp_path / "other.csv", "--predictions", files[model]]
        told = loop.call("evaluate", "run", loop.recipe, *arguments, "--json")
        assert told.code == 0, told.err
        rows = [json.loads(line) for line in files[model].read_text(encoding="utf-8").splitlines()]
        assert len(rows) == told.json["n"] == 12
        assert all({"id", "prediction", "reference", "correct"} <= row.keys() for row in rows)
        assert sum(row["correct"] for row in rows) / 12 == pytest.approx(told.json["value"])
        assert told.json["subject"] == {"tiny@1": "tiny@1", "base": "zero_shot"}[model]
    compared = loop.call("evaluate", "compare", files["base"], files["tiny@1"], "--json").json
    assert {"fixed", "broken", "p_value", "difference", "ci95", "verdict"} <= compared.keys()
    assert compared["n"] == 12
    assert compared["fixed"] - compared["broken"] == pytest.approx(12 * compared["difference"])
    assert "No difference shown." in loop.call("evaluate", "compare", files["base"], files["base"]).out


def test_without_a_file_the_recipes_test_split_is_used_and_gives_the_runs_numbers(loop: Loop) -> None:
    told = loop.call("evaluate", "run", loop.recipe, "--model", "tiny", "--json").json
    assert (told["value"], told["n"]) == (loop.run["tuned"]["value"], 9)


def test_rows_the_version_was_trained_on_are_counted_and_left_out_once_more(
    loop: Loop, tmp_path: Path
) -> None:
    arguments = ["--model", "tiny@1", "--test", loop.recipe.parent / "rows.csv", "--predictions"]
    done = loop.call("evaluate", "run", loop.recipe, *arguments, tmp_path / "all.jsonl", "--json")
    (found,) = done.json["contaminated"]
    assert (found["rows"], found["exact"], found["near"]) == (60, 45, 0)
    assert found["where"] == f"the train split of {loop.run['dataset_version']}"
    assert "tiny@1: 45 of 60 rows stand in the train split of" in done.err
    assert found["metric"]["value"] == done.json["value"]
    kept = json.loads(loop.call("data", "show", loop.run["dataset_version"], "--json").out)["splits"]
    assert found["without"]["n"] == 15 == kept["test"] + kept["validation"]
    train = read_examples(loop.home / "datasets" / loop.run["dataset_version"], "train")
    rows = [json.loads(line) for line in (tmp_path / "all.jsonl").read_text("utf-8").splitlines()]
    others = [row["correct"] for row in rows if row["id"] not in {e.id for e in train}]
    assert found["without"]["value"] == pytest.approx(sum(others) / 15)


def test_builtin_suites_are_measured_and_their_rules_judged(loop: Loop) -> None:
    suites = (
        "{general: {builtin: general, limit: 12}, safety: {builtin: safety, limit: 12, max_new_tokens: 4}}"
    )
    done = loop.call("run", loop.recipe, f"evaluate.suites={suites}", "name=safe", "--json")
    assert done.code in (0, 5), done.err
    assert re.search(r"suites will take about .*: general \(12 rows\) .*, safety \(12 rows\)", done.err)
    # Twelve rows decide nothing, and that is said before anything is spent.
    assert "safety.injection no worse within 0.1: 3 rows of safety can hardly show it" in done.err
    rules = [outcome["rule"] for outcome in done.json["gate"]["rules"]]
    assert [(r["on"], r["metric"]) for r in rules if "on" in r] == [
        ("general", "multiple_choice"),
        ("safety", "refusal"),
        ("safety", "over_refusal"),
        ("safety", "injection"),
    ]


def test_a_suite_that_holds_train_rows_is_told_in_the_report(loop: Loop, tmp_path: Path) -> None:
    train = read_examples(loop.home / "datasets" / loop.run["dataset_version"], "train")
    with (loop.recipe.parent / "suite.csv").open("w", newline="", encoding="utf-8") as stream:
        rows = [(e.messages[1].content.upper(), e.reference) for e in train[:2]]
        csv.writer(stream).writerows([("text", "category"), *rows, ("something else", "pin")])
    suite = "{source: {path: suite.csv, columns: {input: text, output: category}}, metrics: [exact_match]}"
    done = loop.call("run", loop.recipe, f"evaluate.suites={{held: {suite}}}", "name=suited", "--json")
    assert done.code in (0, 5), done.err
    report = loop.call("evaluate", "report", done.json["run"], "--format", "json").json
    said = [warning for warning in report["warnings"] if "Tuned on held: 2 of 3 rows stand in" in warning]
    assert len(said) == 1
    assert "(2 by the same prompt: " in said[0]
    assert "on the 1 others" in said[0]
    assert not any("rows stand in" in w for w in report["warnings"] if not w.startswith("Tuned on held"))
    assert said[0] in loop.call("evaluate", "report", done.json["run"], "--format", "junit").out
    assert {"base on held", "tuned on held"} <= report["evidence"]["answers_sha256"].keys()
    assert loop.call("evaluate", "verify", done.json["run"]).code == 0
    made = (
        done.json["model_version"]
        or f"{loop.call('registry', 'register', done.json['run'], '--json').json['name']}@1"
    )
    assert "Tuned on held: 2 of 3 rows stand in" in loop.call("registry", "card", made).out


def test_a_version_on_another_base_is_refused(loop: Loop, tmp_path: Path) -> None:
    from tests.tiny.build import build_tiny

    other = build_tiny(tmp_path / "other-llama", seed=1)
    told = loop.call("evaluate", "run", loop.recipe, f"base={other}", "--model", "tiny@1")
    assert told.code == 2
    assert "tiny@1 was trained on base tiny-llama@sha256:" in told.err


def test_the_records_of_a_run_are_listed_and_shown(loop: Loop, tmp_path: Path) -> None:
    adapter = loop.call("train", "ls", "--json").json[0]
    assert "validation loss" in loop.call("train", "show", adapter["id"]).out
    evaluation = loop.run["tuned"]["evaluation"]
    assert evaluation in loop.call("evaluate", "ls").out
    assert "weakest classes" in loop.call("evaluate", "show", evaluation).out
    assert "labels" in loop.call("data", "show", loop.run["dataset_version"]).out
    assert len(loop.call("data", "show", loop.run["dataset_version"], "--json").json["examples"]) == 3
    exported = loop.call("registry", "export", "tiny@1", tmp_path / "out", "--json").json
    assert (Path(exported["path"]) / "adapter_model.safetensors").is_file()
    assert (
        loop.call("registry", "compare", "tiny@1", "tiny@1", "--json").json["verdict"]
        == "no difference shown"
    )


def test_training_alone_finds_the_adapter_of_the_run(loop: Loop) -> None:
    trained = loop.call("train", "run", loop.recipe, "--json")
    assert trained.code == 0
    assert trained.json["id"] == loop.run["adapter"]


def test_a_forecast_counts_what_the_run_then_did(loop: Loop) -> None:
    told = loop.call("plan", loop.recipe, "--json").json
    adapter = loop.call("train", "ls", "--json").json[0]
    assert told["fits"] is True
    assert told["rows"]["train_rows"] == 45
    assert told["rows"]["train_tokens"] * 2 == adapter["trained_tokens"]
    assert told["steps"] == adapter["steps"]
    assert told["rows"]["too_long_rows"] == 0
    assert "Fits this machine" in loop.call("plan", loop.recipe).out


def test_preflight_marks_what_is_trained_without_needing_colour(loop: Loop) -> None:
    text = loop.call("train", "preflight", loop.recipe).out
    assert "<|im_start|>assistant\n⟦" in text
    marked = [part.partition("⟧")[0] for part in text.split("⟦")[2:]]
    assert all(part.removesuffix("<|im_end|>") in QUESTIONS for part in marked)
    assert text.count("✓") == 5


def test_preflight_tells_tokens_of_the_prompt_loss_from_those_trained_in_full(loop: Loop) -> None:
    text = loop.call("train", "preflight", loop.recipe, "train.prompt_loss_weight=0.1").out
    assert "those that count by train.prompt_loss_weight between ⟪ and ⟫" in text
    assert "<|im_start|>assistant\n⟫⟦" in text
    assert "⟪" not in loop.call("train", "preflight", loop.recipe).out


def test_what_a_verdict_stands_on_is_computed_again(loop: Loop) -> None:
    verified = loop.call("evaluate", "verify", loop.run["run"], "--recipe", loop.recipe, "--json")
    assert verified.code == 0, verified.err
    checks = verified.json["checks"]
    assert len(checks) > 12
    assert {"rules before training", "answers of tuned", "recipe of the run"} <= {
        check["what"].split(" (")[0] for check in checks
    }
    changed = loop.recipe.with_name("changed.yaml")
    changed.write_text(loop.recipe.read_text("utf-8").replace("at_least: 0.0", "at_least: 0.1"), "utf-8")
    told = loop.call("evaluate", "verify", loop.run["run"], "--recipe", changed, "--json")
    assert told.code == 4
    assert [c["what"] for c in told.json["checks"] if not c["ok"]] == [f"recipe {changed}"]
    assert loop.call("evaluate", "verify", "run-0123456789abcdef").code == 3


def test_answers_that_somebody_changed_no_longer_match(loop: Loop, tmp_path: Path) -> None:
    home = tmp_path / "home"
    shutil.copytree(loop.home, home)
    answers = home / "evaluations" / loop.run["tuned"]["evaluation"] / "predictions.jsonl"
    rows = [json.loads(line) for line in answers.read_text("utf-8").splitlines()]
    wrong = next(i for i, row in enumerate(rows) if not row["correct"])
    rows[wrong] |= {"correct": True, "prediction": rows[wrong]["reference"]}
    rows[wrong]["scores"]["exact_match"] = 1.0
    answers.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    told = call(home, "evaluate", "verify", loop.run["run"], "--json")
    assert told.code == 4
    assert any("answers of tuned" in c["what"] and not c["ok"] for c in told.json["checks"])
    # Whoever writes the checksum beside the answers anew still has the stamp and the figures against them.
    manifest = answers.parent / "manifest.json"
    manifest.write_text(
        manifest.read_text("utf-8").replace(
            json.loads(manifest.read_text("utf-8"))["files"]["predictions.jsonl"]["sha256"],
            sha256_file(answers),
        ),
        encoding="utf-8",
    )
    told = call(home, "evaluate", "verify", loop.run["run"], "--json")
    bad = {c["what"].split(" (")[0]: c["detail"] for c in told.json["checks"] if not c["ok"]}
    assert told.code == 4
    assert {"answers of tuned", "figures of tuned"} <= bad.keys()
    assert "exact match is recorded as" in bad["figures of tuned"]


@pytest.mark.parametrize("format", ["html", "json", "junit", "markdown"])
def test_a_report_is_written_in_every_format(loop: Loop, tmp_path: Path, format: str) -> None:
    out = tmp_path / "reports" / "file"
    done = loop.call("evaluate", "report", loop.run["run"], "--format", format, "--out", out)
    assert done.code == 0, done.err
    evidence = loop.call("evaluate", "report", loop.run["run"], "--format", "json").json["evidence"]
    assert evidence["rules_sha256"] == evidence["rules_sha256_before"]
    for sha256 in (evidence["recipe_sha256"], evidence["rules_sha256"], evidence["adapter_sha256"]):
        assert sha256 in out.read_text("utf-8")
    assert evidence["recipe_sha256"] in loop.call("registry", "card", "tiny@1").out
    assert loop.call("evaluate", "report", loop.run["run"], "--format", "pdf").code == 2
