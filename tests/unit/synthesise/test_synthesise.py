"""Rows from a teacher over a socket: all methods, every fault, and what it costs."""

from __future__ import annotations

import json
import random
import ssl
import subprocess
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.unit.synthesise.teacher import KEY, Teacher, row_text, serving, usual
from tunery.core.config import parse_settings
from tunery.core.errors import ConfigError, ConflictError, ResourceError
from tunery.core.progress import Silent
from tunery.synthesise.config import SynthesiseConfig
from tunery.synthesise.output import Synthesised
from tunery.synthesise.synthesise import Material, make_synthetic
from tunery.text.normalise import prompt_fingerprint

Make = Callable[..., Synthesised]


@pytest.fixture
def make(material: Material, teacher: Teacher, tmp_path: Path) -> Make:
    """Make rows with settings that differ from the usual ones."""

    def call(
        out: str = "made.jsonl", *, stop: Callable[[], bool] = lambda: False, **changes: Any
    ) -> Synthesised:
        other = changes.pop("material_now", None)
        values: dict[str, Any] = {
            "method": "label", "rows": 12, "rows_per_request": 3,
            "teacher": {
                "base_url": teacher.url, "model": "wise", "api_key_env": "TEACHER_KEY", "max_tokens": 200,
                "backoff_s": 0.01, "timeout_s": 5, **changes.pop("asking", {}),
            },
            **changes,
        }  # fmt: skip
        return make_synthetic(
            other or material,
            parse_settings(SynthesiseConfig, values, where="test"),
            tmp_path / out,
            now=lambda: datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
            progress=Silent(),
            should_stop=stop,
        )

    return call


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_rows_for_every_class_with_their_provenance(make: Make, material: Material, tmp_path: Path) -> None:
    made = make()
    rows = lines(tmp_path / "made.jsonl")
    assert made.rows == len(rows) == 12
    assert {r["messages"][-1]["content"] for r in rows} == set(material.version.labels or ())
    by_id = {e.id: e for e in material.train}
    for row in rows:
        about = row["metadata"]
        assert about["source_kind"] == "synthetic"
        assert about["split_hint"] == "train"
        assert (about["method"], about["teacher"]) == ("label", "wise")
        assert about["endpoint"].startswith("127.0.0.1:")
        assert about["prompt"] == made.prompts["rows"]
        assert about["made_at"] == "2026-01-02T03:04:05+00:00"
        assert about["request_id"].startswith("chatcmpl-")
        assert about["seeds"], "a row says what it was made after"
        assert set(about["seeds"]) <= by_id.keys(), "seeds are rows of the train split"
        assert about["seed_prompts"] == [prompt_fingerprint(by_id[s]) for s in about["seeds"]]
    manifest = Synthesised.model_validate_json((tmp_path / "made.manifest.json").read_text(encoding="utf-8"))
    assert manifest == made
    assert made.stopped is None


def test_the_teacher_sees_no_held_out_row(make: Make, material: Material, teacher: Teacher) -> None:
    make(method="paraphrase", rows=90, rows_per_request=1)
    sent = " ".join(m["content"] for body in teacher.bodies for m in body["messages"])
    assert material.held_out
    assert any(e.prompt[-1].content in sent for e in material.train)
    assert [e.prompt[-1].content for e in material.held_out if e.prompt[-1].content in sent] == []


def test_paraphrases_keep_the_output_of_their_seed(make: Make, material: Material, tmp_path: Path) -> None:
    make(method="paraphrase")
    by_id = {e.id: e for e in material.train}
    for row in lines(tmp_path / "made.jsonl"):
        (seed,) = row["metadata"]["seeds"]
        assert row["messages"][-1]["content"] == by_id[seed].reference


def test_self_instruct_writes_inputs_and_outputs(make: Make, material: Material, tmp_path: Path) -> None:
    made = make(method="self_instruct")
    assert made.rows == 12
    labels = set(material.version.labels or ())
    assert {r["messages"][-1]["content"] for r in lines(tmp_path / "made.jsonl")} <= labels


@pytest.mark.parametrize(("says", "reason"), [
    ('["x" "y"]', "bad_json"),
    ('{"a": 1}', "bad_json"),
    ("I am sorry, I cannot do that.", "bad_json"),
    ('[1, 2, 3]', "bad_item"),
    ('["", "  ", "\\u200b"]', "empty"),
    ('["¿Por qué no está mi tarjeta en la lista de las tarjetas?"]', "wrong_language"),
    ('["Где моя новая карта, которую я заказал?"]', "wrong_language"),
    ('["\\ud800 half of a pair"]', "bad_item"),
])  # fmt: skip
def test_an_answer_that_is_no_use_is_counted_with_its_reason(
    says: str, reason: str, make: Make, teacher: Teacher, tmp_path: Path
) -> None:
    answers = iter([says])
    teacher.say = lambda body: next(answers, None) or usual(body)
    made = make()
    assert made.rows == 12
    assert made.rejected == {reason: made.rejected[reason]}
    rejected = lines(tmp_path / "made.rejected.jsonl")
    assert {r["reason"] for r in rejected} == {reason}


def test_an_unknown_label_a_held_out_row_and_repeats_are_rejected(
    make: Make, material: Material, teacher: Teacher
) -> None:
    rows = [
        {"input": "please look at something else", "output": "no such class"},
        {"input": material.held_out[0].prompt[-1].content.upper() + "!", "output": "card arrival"},
        {"input": material.train[0].prompt[-1].content, "output": "card arrival"},
        {"input": "please look at one thing twice", "output": "card arrival"},
        {"input": "Please look at one thing twice.", "output": "card arrival"},
    ]
    answers = iter([json.dumps(rows)])
    teacher.say = lambda body: next(answers, None) or usual(body)
    made = make(method="self_instruct", rows_per_request=5, max_similarity=0.95)
    assert made.rejected == {"held_out": 1, "repeats_data": 1, "repeats_other": 1, "unknown_label": 1}


def test_a_fenced_answer_behind_a_thought_is_read(make: Make, teacher: Teacher) -> None:
    teacher.say = lambda body: f"<think>Let me see [1].</think>\n```json\n{usual(body)}\n```"
    assert make().rejected == {}


def test_unicode_comes_through_whole(make: Make, teacher: Teacher, tmp_path: Path) -> None:
    texts = ["où est ma carte naïve 🙂 Ωmega", "日本のカードはどこですか", "e\u0301te\u0301 carte été perdue"]
    teacher.say = lambda body: json.dumps(texts, ensure_ascii=False)
    make(rows=3, language="any")
    written = [r["messages"][0]["content"] for r in lines(tmp_path / "made.jsonl")]
    assert written == [texts[0], texts[1], "été carte été perdue"]


@pytest.mark.parametrize("fault", [429, 500, 503, 408, "cut", "nonsense"])
def test_a_passing_fault_is_tried_again(
    fault: int | str, make: Make, teacher: Teacher, tmp_path: Path
) -> None:
    make("undisturbed.jsonl")
    teacher.faults = [fault] * 3
    made = make()
    assert (made.retries, made.failed) == (3, 0)
    disturbed, undisturbed = (lines(tmp_path / name) for name in ("made.jsonl", "undisturbed.jsonl"))
    assert [r["messages"] for r in disturbed] == [r["messages"] for r in undisturbed]


def test_a_request_that_hangs_ends_at_its_timeout(make: Make, teacher: Teacher) -> None:
    teacher.faults = ["hang"]
    made = make(asking={"timeout_s": 0.3})
    assert made.retries == 1
    assert made.tokens_unsure > 0, "nobody knows whether it was billed"
    assert made.tokens == teacher.tokens + made.tokens_unsure


def test_retry_after_is_honoured_by_all_requests(make: Make, teacher: Teacher) -> None:
    teacher.faults = [(429, {"Retry-After": "1"})]
    make(asking={"concurrency": 1})
    assert teacher.at[1] - teacher.at[0] >= 1.0


def test_a_pause_longer_than_allowed_ends_the_call(make: Make, teacher: Teacher) -> None:
    teacher.faults = [(429, {"Retry-After": "3600"})]
    started = time.monotonic()
    with pytest.raises(ResourceError, match="wait 3,600 s"):
        make()
    assert time.monotonic() - started < 5


@pytest.mark.parametrize("status", [400, 403, 404, 422, 302, 201, 204])
def test_a_refusal_is_not_tried_again(status: int, make: Make, teacher: Teacher, tmp_path: Path) -> None:
    teacher.faults = [status] * 50
    with pytest.raises(ConfigError, match=str(status)):
        make(asking={"concurrency": 1})
    assert teacher.seen == 1
    assert not (tmp_path / "made.jsonl").exists()


def test_a_bad_key_is_reported_without_the_key(
    make: Make, teacher: Teacher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEACHER_KEY", "sk-wrong-98765")
    with pytest.raises(ConfigError, match="TEACHER_KEY") as caught:
        make()
    assert "401" in str(caught.value)
    assert "sk-wrong-98765" not in str(caught.value)
    assert teacher.bodies == []
    monkeypatch.setenv("TEACHER_KEY", KEY)
    made = make()
    assert made.tokens == teacher.tokens, "what was turned away costs nothing"
    written = b"".join(p.read_bytes() for p in tmp_path.glob("made*"))
    assert written
    assert KEY.encode() not in written


def test_a_teacher_is_sent_the_request_and_its_own_key_only(
    make: Make, teacher: Teacher, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("API_KEY", "ADMIN_KEY", "ORG_ID", "PROJECT_ID"):
        monkeypatch.setenv(f"OPENAI_{name}", "another account")
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", "X-Team: another account\nAuthorization: another account")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    make()
    assert {h["authorization"] for h in teacher.headers} == {f"Bearer {KEY}"}
    assert "another account" not in str(teacher.headers)
    assert not {name for h in teacher.headers for name in h} & {"x-stainless-os", "x-stainless-runtime"}
    with pytest.raises(ConfigError, match="--api-key-env NAME"):
        make("keyless.jsonl", asking={"api_key_env": None})
    assert "authorization" not in teacher.headers[-1]


def test_a_certificate_authority_of_the_environment_is_trusted(
    make: Make, teacher: Teacher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate, key = tmp_path / "ca.pem", tmp_path / "ca.key"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1"]
    names = ["-subj", "/CN=teacher", "-addext", "subjectAltName=IP:127.0.0.1"]
    command += [*names, "-keyout", str(key), "-out", str(certificate)]
    subprocess.run(command, check=True, capture_output=True)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    with serving(Teacher(), tls=context) as private:
        with pytest.raises(ResourceError, match="cannot connect"):
            make(asking={"base_url": private.url, "attempts": 1})
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        assert make(asking={"base_url": private.url}).failed == 0


def test_a_missing_key_is_reported_before_anything_is_sent(
    make: Make, teacher: Teacher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TEACHER_KEY")
    with pytest.raises(ConfigError, match="TEACHER_KEY is not set"):
        make()
    assert teacher.seen == 0


def test_an_endpoint_that_is_not_there_ends_the_call_and_keeps_nothing_half(
    make: Make, tmp_path: Path
) -> None:
    with pytest.raises(ResourceError, match="cannot connect"):
        make(asking={"base_url": "http://127.0.0.1:9/v1", "attempts": 2})
    assert not (tmp_path / "made.jsonl").exists()


def test_requests_in_flight_are_bounded(make: Make, teacher: Teacher) -> None:
    teacher.delay_s = lambda number: 0.05
    make(rows=36, asking={"concurrency": 3})
    assert teacher.most_at_once == 3


def test_the_rows_do_not_depend_on_the_order_of_answers(make: Make, teacher: Teacher, tmp_path: Path) -> None:
    make("one.jsonl", rows=30, asking={"concurrency": 1})
    draw = random.Random(1)
    teacher.delay_s = lambda number: draw.random() * 0.05
    teacher.faults = [500, 429]
    make("eight.jsonl", rows=30, asking={"concurrency": 8})
    one, eight = (lines(tmp_path / name) for name in ("one.jsonl", "eight.jsonl"))
    assert [r["messages"] for r in one] == [r["messages"] for r in eight]


@pytest.mark.parametrize("budget", [1500, 3000, 5000])
def test_the_budget_in_tokens_is_never_exceeded(
    budget: int, make: Make, teacher: Teacher, tmp_path: Path
) -> None:
    made = make(rows=300, budget_tokens=budget, asking={"max_tokens": 100})
    assert made.stopped == "budget"
    assert 0 < made.rows < 300
    assert made.tokens == teacher.tokens <= budget
    assert len(lines(tmp_path / "made.jsonl")) == made.rows


def test_the_budget_in_money_is_never_exceeded(make: Make) -> None:
    prices = {"price_prompt": 2.0, "price_completion": 8.0, "max_tokens": 100}
    made = make(rows=300, budget_usd=0.02, asking=prices)
    assert made.stopped == "budget"
    assert made.usd is not None
    assert 0.01 < made.usd <= 0.02


def test_a_larger_budget_goes_on_and_pays_for_what_is_missing(
    make: Make, teacher: Teacher, tmp_path: Path
) -> None:
    whole = make("whole.jsonl", rows=60)
    paid = teacher.tokens
    part = make(rows=60, budget_tokens=4000)
    assert part.stopped == "budget"
    rest = make(rows=60)
    assert rest.rows == 60
    assert rest.bought + part.bought == whole.bought
    assert teacher.tokens == 2 * paid
    assert [r["messages"] for r in lines(tmp_path / "made.jsonl")] == [
        r["messages"] for r in lines(tmp_path / "whole.jsonl")
    ]
    seen = teacher.seen
    assert make(rows=60).bought == 0
    assert teacher.seen == seen, "a finished file costs nothing to make again"


def test_rows_that_are_paid_for_stay_when_the_budget_is_spent(
    make: Make, teacher: Teacher, tmp_path: Path
) -> None:
    teacher.faults = [500]
    alone = {"concurrency": 1, "attempts": 1}
    first = make(rows=30, asking=alone)
    assert (first.failed, first.rows) == (1, 30)
    rows = lines(tmp_path / "made.jsonl")
    again = make(rows=30, budget_tokens=first.tokens, asking=alone)
    assert (again.bought, again.rows, again.stopped) == (0, 30, None)
    assert lines(tmp_path / "made.jsonl") == rows
    more = make(rows=40, budget_tokens=first.tokens, asking=alone)
    assert (more.bought, more.rows, more.stopped) == (0, 30, "budget")


def test_a_budget_too_small_for_one_request_is_a_wrong_setting(make: Make, teacher: Teacher) -> None:
    with pytest.raises(ConfigError, match="does not pay for one request"):
        make(budget_tokens=100)
    assert teacher.seen == 0


def test_answers_without_a_count_stand_at_their_ceiling(make: Make, teacher: Teacher) -> None:
    teacher.metered = False
    made = make()
    assert made.unmetered == made.requests > 0
    assert made.tokens > teacher.tokens


def test_a_teacher_that_never_says_anything_useful_is_given_up(make: Make, teacher: Teacher) -> None:
    teacher.say = lambda body: "no"
    with pytest.raises(ConfigError, match="20 bad_json"):
        make()
    assert teacher.seen == 20, "five times as many requests as would do"


def test_few_useful_rows_end_with_what_there_is(make: Make, teacher: Teacher) -> None:
    teacher.say = lambda body: json.dumps([row_text(random.Random(7))])
    made = make()
    assert (made.rows, made.stopped) == (1, "requests")


def test_the_judge_keeps_rows_from_its_threshold_on(make: Make, teacher: Teacher, tmp_path: Path) -> None:
    made = make(judge={"threshold": 4})
    assert made.scores is not None
    assert set(made.scores) <= {"2", "4", "5"}
    assert made.rejected == {"low_score": made.scores["2"]}
    assert {r["metadata"]["judge"]["score"] for r in lines(tmp_path / "made.jsonl")} == {4, 5}
    judged = [b for b in teacher.bodies if "judge" in b["messages"][0]["content"]]
    assert {b["temperature"] for b in judged} == {0.0}
    assert make(judge={"threshold": 4}).bought == 0, "the judge is not paid twice either"


def test_rows_that_the_judge_did_not_judge_stay_out(make: Make, teacher: Teacher) -> None:
    teacher.say = lambda body: "all good" if "judge" in body["messages"][0]["content"] else usual(body)
    with pytest.raises(ConfigError, match="not_judged"):
        make(judge={"threshold": 4})


def test_stopping_waits_for_what_is_in_flight_and_goes_on_later(
    make: Make, teacher: Teacher, tmp_path: Path
) -> None:
    whole = make("whole.jsonl", rows=60, asking={"concurrency": 2})
    teacher.seen = teacher.tokens = 0
    teacher.delay_s = lambda number: 0.05
    with pytest.raises(KeyboardInterrupt):
        make(rows=60, stop=lambda: teacher.seen >= 6, asking={"concurrency": 2})
    assert not (tmp_path / "made.jsonl").exists()
    made = make(rows=60, asking={"concurrency": 2})
    assert teacher.seen == whole.bought
    assert (made.tokens, made.tokens_unsure) == (teacher.tokens, 0)


def test_other_settings_do_not_go_on_from_a_file_of_these(make: Make) -> None:
    make()
    with pytest.raises(ConflictError, match="other settings"):
        make(method="paraphrase")


def test_a_teacher_that_moved_to_another_address_is_not_paid_again(
    make: Make, teacher: Teacher, tmp_path: Path
) -> None:
    make()
    with serving(Teacher()) as moved:
        made = make(rows=18, asking={"base_url": moved.url})
    assert made.bought == moved.seen > 0
    hosts = [row["metadata"]["endpoint"] for row in lines(tmp_path / "made.jsonl")]
    assert hosts == [urlsplit(teacher.url).netloc] * 12 + [urlsplit(moved.url).netloc] * 6


def test_a_file_of_somebody_else_is_not_replaced(make: Make, teacher: Teacher, tmp_path: Path) -> None:
    (tmp_path / "made.jsonl").write_text("mine\n", encoding="utf-8")
    with pytest.raises(ConflictError, match="was not written by this command"):
        make()
    assert (tmp_path / "made.jsonl").read_text(encoding="utf-8") == "mine\n"
    assert teacher.seen == 0


def test_a_class_that_is_not_there_is_reported_with_the_nearest(make: Make) -> None:
    with pytest.raises(ConfigError, match="did you mean 'card arrival'"):
        make(labels=["card arival"])
