"""Answers of other systems, in the shapes that these write, and what is wrong in them."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tunery.core.errors import ConfigError
from tunery.core.plugins import plugin_names
from tunery.evaluate.comparison import compare_files
from tunery.evaluate.predictions import PredictionRow, read_prediction_rows

REFERENCES = ["yes", "no"] * 10


def lines(path: Path, rows: Sequence[Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def document(path: Path, value: Any) -> Path:
    path.write_text(json.dumps(value), encoding="utf-8")
    return path


def table(path: Path, rows: Sequence[dict[str, Any]]) -> Path:
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]), delimiter="\t" if path.suffix == ".tsv" else ",")
        writer.writeheader()
        writer.writerows(rows)
    return path


def lm_eval(path: Path, answers: Sequence[str], **more: Any) -> Path:
    rows = [
        {
            "doc_id": i,
            "doc": {"question": f"Is {i} odd?", "answer": right},
            "target": right,
            "arguments": {
                "gen_args_0": {"arg_0": f"Is {i} odd?", "arg_1": {"until": ["\n"], "do_sample": False}}
            },
            "resps": [[f" {answer}\n"]],
            "filtered_resps": [answer],
            "filter": "none",
            "metrics": ["exact_match"],
            "doc_hash": f"{i:064x}",
            "prompt_hash": f"{i + 7:064x}",
            "target_hash": f"{i + 9:064x}",
            "exact_match": float(answer == right),
            **more,
        }
        for i, (answer, right) in enumerate(zip(answers, REFERENCES, strict=True))
    ]
    return lines(path, rows)


def inspect(path: Path, answers: Sequence[str], epochs: int = 1) -> Path:
    samples = [
        {
            "id": i,
            "epoch": epoch,
            "input": f"Is {i} odd?",
            "target": right,
            "messages": [
                {"role": "user", "content": f"Is {i} odd?"},
                {"role": "assistant", "content": answer},
            ],
            "output": {
                "model": "openai/x",
                "choices": [
                    {
                        "message": {"role": "assistant", "content": [{"type": "text", "text": answer}]},
                        "stop_reason": "stop",
                    }
                ],
            },
            "scores": {"match": {"value": "C" if answer == right else "I", "answer": answer}},
            "metadata": {},
        }
        for i, (answer, right) in enumerate(zip(answers, REFERENCES, strict=True))
        for epoch in range(1, epochs + 1)
    ]
    log = {
        "version": 2,
        "status": "success",
        "eval": {"task": "odd", "model": "openai/x"},
        "plan": {},
        "results": {},
    }
    return document(path, {**log, "stats": {}, "samples": samples})


def output_items(answers: Sequence[str]) -> list[dict[str, Any]]:
    return [
        {
            "object": "eval.run.output_item",
            "id": f"outputitem_{i}",
            "created_at": 1743092076,
            "run_id": "evalrun_1",
            "eval_id": "eval_1",
            "status": "pass" if answer == right else "fail",
            "datasource_item_id": i,
            "datasource_item": {"item": {"input": f"Is {i} odd?", "ground_truth": right}},
            "results": [
                {
                    "name": "String check-a2486074-d803-4445-b431-ad2262e85d47",
                    "sample": None,
                    "passed": answer == right,
                    "score": float(answer == right),
                }
            ],
            "sample": {
                "input": [{"role": "user", "content": f"Is {i} odd?"}],
                "output": [{"role": "assistant", "content": answer}],
                "finish_reason": "stop",
                "model": "gpt-x",
                "usage": {"total_tokens": 9, "completion_tokens": 1, "prompt_tokens": 8, "cached_tokens": 0},
                "error": None,
            },
        }
        for i, (answer, right) in enumerate(zip(answers, REFERENCES, strict=True))
    ]


def openai_evals(path: Path, answers: Sequence[str]) -> Path:
    items = output_items(answers)
    page = {"object": "list", "data": items, "first_id": items[0]["id"], "last_id": items[-1]["id"]}
    return document(path, {**page, "has_more": False})


def promptfoo(path: Path, answers: Sequence[str], providers: Sequence[str] = ("openai:x",)) -> Path:
    results = [
        {
            "promptIdx": 0,
            "testIdx": i,
            "testCase": {"vars": {"n": str(i)}, "assert": [{"type": "equals", "value": right}]},
            "provider": {"id": provider, "label": ""},
            "prompt": {"raw": f"Is {i} odd?", "label": "Is {{n}} odd?"},
            "vars": {"n": str(i)},
            "response": {"output": answer, "tokenUsage": {"total": 9}},
            "success": answer == right,
            "score": float(answer == right),
            "latencyMs": 12,
            "gradingResult": {"pass": answer == right, "score": float(answer == right), "reason": "…"},
            "namedScores": {},
        }
        for provider in providers
        for i, (answer, right) in enumerate(zip(answers, REFERENCES, strict=True))
    ]
    body = {"version": 3, "timestamp": "2026-11-01T10:00:00Z", "prompts": [], "results": results, "stats": {}}
    return document(path, {"evalId": "eval-abc", "results": body, "config": {}, "shareableUrl": None})


def plain(path: Path, answers: Sequence[str]) -> Path:
    rows = [
        {"id": i, "prediction": answer, "reference": right}
        for i, (answer, right) in enumerate(zip(answers, REFERENCES, strict=True))
    ]
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
        return path
    return table(path, rows) if path.suffix in (".csv", ".tsv") else lines(path, rows)


KINDS = {
    "lm_eval": (lm_eval, "samples_odd_2026-11-01T10-00-00.jsonl"),
    "inspect_log": (inspect, "log.json"),
    "openai_evals": (openai_evals, "items.json"),
    "promptfoo": (promptfoo, "out.json"),
    "jsonl": (plain, "p.jsonl"),
    "csv": (plain, "p.csv"),
    "tsv": (plain, "p.tsv"),
    "parquet": (plain, "p.parquet"),
}


def test_every_reader_has_a_file_in_its_real_shape() -> None:
    assert {*plugin_names("tunery.evaluate.readers")} <= {*KINDS}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_file_gives_the_same_comparison(kind: str, tmp_path: Path) -> None:
    write, name = KINDS[kind]
    (tmp_path / "a").mkdir()
    worse, better = ["yes"] * 20, [*REFERENCES[:19], ""]
    a, b = write(tmp_path / "a" / name, worse), write(tmp_path / name, better)
    compared = compare_files(a, b)
    assert (compared.n, compared.fixed, compared.broken) == (20, 9, 0)
    assert (compared.value_a, compared.value_b) == (0.5, 0.95)
    assert compared == compare_files(
        plain(tmp_path / "a.jsonl", worse), plain(tmp_path / "b.jsonl", better)
    ).with_(a=str(a), b=str(b))
    last = read_prediction_rows(b)[-1]
    assert (last.id, last.prediction, last.reference) == ("19", "", "no"), "an empty answer is one, and wrong"


def test_files_of_two_systems_are_compared_by_their_ids(tmp_path: Path) -> None:
    a, b = lm_eval(tmp_path / "a.jsonl", ["yes"] * 20), inspect(tmp_path / "b.json", REFERENCES)
    assert compare_files(a, b).fixed == 10


@pytest.mark.parametrize("kind", ["lm_eval", "inspect_log", "openai_evals", "promptfoo"])
def test_files_that_are_out_of_step_are_refused(kind: str, tmp_path: Path) -> None:
    write, name = KINDS[kind]
    (tmp_path / "b").mkdir()
    a, b = write(tmp_path / name, REFERENCES), write(tmp_path / "b" / name, REFERENCES)
    text = b.read_text(encoding="utf-8")
    for i in (4, 6):  # two questions of one reference, the one in the place of the other
        text = text.replace(f"Is {i} odd", f"Is <{10 - i}> odd").replace(f'"n": "{i}"', f'"n": "<{10 - i}>"')
        text = text.replace(f'"{i:064x}"', f'"<{10 - i}>"')
    b.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=r"2 problems\n.*id '4': .* do not answer the same question"):
        compare_files(a, b)


def test_filters_of_lm_eval_are_scores_of_their_own(tmp_path: Path) -> None:
    both = []
    for name, right in (("a", 3), ("b", 9)):
        strict = lm_eval(
            tmp_path / "strict.jsonl", REFERENCES[:right] + ["?"] * (20 - right), filter="strict-match"
        )
        loose = lm_eval(tmp_path / "loose.jsonl", REFERENCES, filter="flexible-extract")
        both.append(tmp_path / f"{name}.jsonl")
        both[-1].write_text(strict.read_text("utf-8") + loose.read_text("utf-8"), encoding="utf-8")
    with pytest.raises(ConfigError, match="--metric NAME: both files have exact_match,flexible-extract"):
        compare_files(*both)
    strict_match = compare_files(*both, metric="exact_match,strict-match")
    assert (strict_match.fixed, strict_match.value_a, strict_match.value_b) == (6, 0.15, 0.45)
    assert compare_files(*both, metric="exact_match,flexible-extract").difference == 0


def test_a_choice_among_answers_is_right_by_its_accuracy(tmp_path: Path) -> None:
    rows = [
        {
            "doc_id": i,
            "doc": {"i": i},
            "target": i % 2,
            "resps": [[[-1.5, False]], [[-0.5, False]]],
            "filtered_resps": [[-1.5, False], [-0.5, False]],
            "filter": "none",
            "metrics": ["acc", "acc_norm"],
            "acc": float(i % 2),
            "acc_norm": 0.0,
        }
        for i in range(4)
    ]
    read = read_prediction_rows(lines(tmp_path / "samples_arc.jsonl", rows))
    assert [row.correct for row in read] == [False, True, False, True]
    assert read[1] == PredictionRow("1", None, "1", True, {"acc": 1, "acc_norm": 0}, None, read[1].asked)


def test_epochs_of_a_sample_hang_together(tmp_path: Path) -> None:
    a, b = (
        inspect(tmp_path / "a.json", ["yes"] * 20, epochs=3),
        inspect(tmp_path / "b.json", REFERENCES, epochs=3),
    )
    compared = compare_files(a, b)
    assert (compared.n, compared.clusters, compared.test) == (60, 20, "randomization")


def test_what_ended_in_an_error_counts_as_wrong(tmp_path: Path) -> None:
    log = json.loads(inspect(tmp_path / "a.json", REFERENCES).read_text("utf-8"))
    log["samples"][0] |= {"error": {"message": "timed out"}, "scores": None, "output": {"choices": []}}
    items = output_items(REFERENCES)
    items[0] |= {
        "status": "error",
        "results": [],
        "sample": {"output": [], "error": {"code": "x", "message": "y"}},
    }
    foo = json.loads(promptfoo(tmp_path / "c.json", REFERENCES).read_text("utf-8"))
    del foo["results"]["results"][0]["response"]
    foo["results"]["results"][0] |= {"success": False, "error": "500", "score": 0}
    for path in (
        document(tmp_path / "a.json", log),
        lines(tmp_path / "b.jsonl", items),
        document(tmp_path / "c.json", foo),
    ):
        first = read_prediction_rows(path)[0]
        assert (first.id, first.correct, first.prediction) == ("0", False, "")


def test_a_part_of_the_answers_is_not_taken_for_all(tmp_path: Path) -> None:
    page = {"object": "list", "data": output_items(REFERENCES), "has_more": True}
    with pytest.raises(ConfigError, match="has_more is true"):
        read_prediction_rows(document(tmp_path / "page.json", page))
    with pytest.raises(ConfigError, match="of 2 systems: openai:x, prompt 0, openai:y, prompt 0"):
        read_prediction_rows(promptfoo(tmp_path / "two.json", REFERENCES, providers=("openai:x", "openai:y")))
    log = json.loads(inspect(tmp_path / "log.json", REFERENCES).read_text("utf-8"))
    with pytest.raises(ConfigError, match="no samples"):
        read_prediction_rows(document(tmp_path / "log.json", {**log, "samples": None}))
    with pytest.raises(ConfigError, match="looks like a file of inspect_log"):
        read_prediction_rows(document(tmp_path / "log.json", {**log, "samples": [7]}))


def test_scores_alone_are_compared_where_they_are_numbers(tmp_path: Path) -> None:
    a = [{"id": i, "score": i / 20} for i in range(20)]
    b = [{"id": i, "score": i / 20 + 0.03} for i in range(20)]
    compared = compare_files(table(tmp_path / "a.csv", a), lines(tmp_path / "b.jsonl", b), metric="score")
    assert (compared.test, compared.fixed, compared.verdict) == ("randomization", 0, "better")
    assert compared.difference == pytest.approx(0.03)
    b[3]["score"] = float("nan")
    with pytest.raises(ConfigError, match=r"no number.*id '3': score is nan in .*b.jsonl"):
        compare_files(tmp_path / "a.csv", lines(tmp_path / "b.jsonl", b), metric="score")
    del b[3]["score"], b[4]["score"]
    b[3]["correct"] = b[4]["correct"] = True
    with pytest.raises(ConfigError, match="2 of 40 rows have no score of it"):
        compare_files(tmp_path / "a.csv", lines(tmp_path / "b.jsonl", b), metric="score")
    with pytest.raises(ConfigError, match="row 1: score 'score' is 'good', not a number"):
        compare_files(table(tmp_path / "c.csv", [{"id": 1, "score": "good"}]), tmp_path / "a.csv")


def test_a_scorer_judges_texts_of_both_sides_by_one_rule(tmp_path: Path) -> None:
    said = [f"{r.upper()}." for r in REFERENCES]
    a = lines(tmp_path / "a.jsonl", [{"id": i, "response": r, "target": r} for i, r in enumerate(REFERENCES)])
    b = lines(tmp_path / "b.jsonl", [{"id": i, "response": s} | {"score": 1} for i, s in enumerate(said)])
    with pytest.raises(ConfigError, match=r"no scorer either.*exact_match"):
        compare_files(a, b, metric="exakt")
    assert compare_files(a, b, metric="exact_match").broken == 20
    assert compare_files(a, b, metric="accuracy").difference == 0
    f1 = compare_files(a, b, metric="macro_f1")
    assert (f1.value_a, f1.metric) == (1.0, "macro_f1")
    with pytest.raises(ConfigError, match="needs the texts"):
        compare_files(lines(tmp_path / "c.jsonl", [{"id": 1, "score": 1}]), a, metric="exact_match")


def test_bad_tables_say_which_row(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text('id,correct\n1,true\n2\n"3"x,false\n', encoding="utf-8")
    with pytest.raises(ConfigError, match=r"t\.csv"):
        read_prediction_rows(tmp_path / "t.csv")
    (tmp_path / "t.csv").write_text("id,correct\n1,true\n2\n1,maybe\n", encoding="utf-8")
    with pytest.raises(
        ConfigError, match=r"row 2: has another number of cells.*\n.*row 3: 'correct' must be"
    ):
        read_prediction_rows(tmp_path / "t.csv")
    (tmp_path / "t.parquet").write_text("no", encoding="utf-8")
    with pytest.raises(ConfigError, match="not Parquet"):
        read_prediction_rows(tmp_path / "t.parquet")
