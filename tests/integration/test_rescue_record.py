"""Recording an old model from a double of its source: asked once each, within the budget, after the terms."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.doubles.openai_source import KEY, OpenAISource, chat_row, serving
from tests.fixtures_cli import Tunery, home, tunery
from tunery.pipeline.rescue.record import likelihood
from tunery.pipeline.rescue.stored import stored_prompts
from tunery.rescue.folder import RescueFolder
from tunery.rescue.records import Scope
from tunery.rescue.terms import answered, note_yes
from tunery.store.exclusive import exclusive

__all__ = ["home", "tunery"]

MODEL = "ft:gpt-4o-mini-2024-07-18:acme::Ab1"
ROWS = [chat_row(f"question {n * 7919} about parcel {n * 104729}", f"label_{n % 3}") for n in range(40)]
TERMS = ("--terms-read", "--yes")


def answering(body: Mapping[str, Any]) -> str:
    number = int(re.findall(r"\d+", str(body["messages"][-1]["content"]))[0]) // 7919
    return f"label_{number % 3}" if number % 10 else "label_9"


@pytest.fixture
def source(monkeypatch: pytest.MonkeyPatch) -> Iterator[OpenAISource]:
    monkeypatch.setenv("SOURCE_KEY", KEY)
    account = OpenAISource(say=answering)
    account.add_fine_tune("Ab1", ROWS)
    with serving(account):
        yield account
    assert account.writes == set()


@pytest.fixture
def fetched(source: OpenAISource, tunery: Tunery, home: Path) -> RescueFolder:
    scope = f"base-url={source.url},key-env=SOURCE_KEY"
    assert tunery("rescue", "inventory", "--scope", scope).code == 0
    assert tunery("rescue", "fetch").code == 0
    return RescueFolder(home, "openai")


def asked(source: OpenAISource) -> Counter[str]:
    return Counter(str(body["messages"][-1]["content"]) for body in source.completions)


def test_nothing_is_sent_before_the_terms_question_is_answered(
    source: OpenAISource, fetched: RescueFolder, tunery: Tunery
) -> None:
    refused = tunery("rescue", "record", "--yes")
    assert refused.code == 2
    assert "terms of use of 127.0.0.1" in refused.err
    assert "--terms-read" in refused.err
    assert source.completions == []
    assert tunery("rescue", "record", *TERMS).code == 0
    assert '"answered_by"' in (fetched.root / "terms.json").read_text()
    assert tunery("rescue", "record", "--yes").code == 0  # answered once


def test_every_source_s_yes_is_kept(fetched: RescueFolder) -> None:
    here, there = Scope(base_url="https://a.example/v1"), Scope(base_url="https://b.example/v1")
    at = datetime(2026, 11, 27, tzinfo=UTC)
    alone = note_yes(fetched, here, "ada", at)
    fetched.write("terms.json", alone)  # as it was written when there was room for one
    note_yes(fetched, there, "bob", at)
    assert answered(fetched, here) == alone
    assert [one and one.answered_by for one in map(answered, [fetched] * 2, (here, there))] == ["ada", "bob"]
    assert answered(fetched, Scope(base_url="https://c.example/v1")) is None


def test_length_of_answers_may_change_until_there_is_one(
    source: OpenAISource, fetched: RescueFolder, tunery: Tunery
) -> None:
    source.trouble.expired = True
    assert tunery("rescue", "record", *TERMS).code == 2
    source.trouble.expired = False
    assert tunery("rescue", "record", "--yes", "--max-tokens", "16").code == 0
    assert {body["max_tokens"] for body in source.completions} == {16}


def test_what_is_held_out_stands_before_the_cost_and_a_missing_file_before_all(
    fetched: RescueFolder, tunery: Tunery, tmp_path: Path
) -> None:
    told = tunery("rescue", "record", "--terms-read").err
    assert told.index("held out: 20 of 40 prompts") < told.index("60 requests to")
    missing = tunery("rescue", "record", "--prompts", tmp_path / "none.jsonl")
    assert missing.code == 2
    assert "none.jsonl" in missing.err


@pytest.mark.parametrize("amount", ["0", "-5", "nan", "inf"])
def test_budget_that_is_none_is_refused(
    source: OpenAISource, fetched: RescueFolder, tunery: Tunery, amount: str
) -> None:
    prices = ("--price-prompt", "1", "--price-completion", "1")
    refused = tunery("rescue", "record", *TERMS, *prices, "--budget-usd", amount)
    assert (refused.code, source.completions) == (2, [])
    assert "above 0" in refused.err
    assert tunery("rescue", "record", *TERMS, "--budget-tokens", amount).code == 2


def test_nothing_is_spent_unless_somebody_agrees_or_caps_it(
    source: OpenAISource, fetched: RescueFolder, tunery: Tunery
) -> None:
    refused = tunery("rescue", "record", "--terms-read")
    assert (refused.code, source.completions) == (2, [])
    assert "60 requests would be paid for" in refused.err
    assert tunery("rescue", "record", "--budget-tokens", "100000").code == 0


def test_answers_are_kept_with_truth_and_logprobs_and_never_bought_twice(
    source: OpenAISource, fetched: RescueFolder, tunery: Tunery
) -> None:
    found = tunery("rescue", "record", *TERMS, "--price-prompt", "1", "--price-completion", "4", "--json")
    assert found.code == 0, found.err
    recorded = found.json["recorded"]
    assert recorded["prompts"] == recorded["answers"]
    assert recorded["prompts"]["holdout"] == 20  # half, where there are few
    assert (recorded["truths"], recorded["right"], recorded["logprobs"]) == (40, 36, True)
    assert (recorded["repeated"], recorded["same"]) == (20, 20)
    assert (recorded["sure"], recorded["unsure"]) == (40, 0)
    assert recorded["usd"] > 0
    kept = list(fetched.recordings(MODEL))
    assert all(recording.logprobs and recording.truth for recording in kept)
    assert all(body["temperature"] == 0 and "store" not in body for body in source.completions)
    assert sorted(asked(source).values()) == [1] * 20 + [2] * 20
    again = tunery("rescue", "record", "--json")
    assert (again.code, again.json["recorded"]["bought"]) == (0, 0)
    assert len(source.completions) == 60
    assert "the old model answers as its rows' owner did in 90.0 %" in Path(again.json["page"]).read_text()


def test_what_the_old_model_is_not_sure_of_is_counted(
    source: OpenAISource, fetched: RescueFolder, tunery: Tunery
) -> None:
    source.trouble.logprob = -0.2  # 82 %
    found = tunery("rescue", "record", *TERMS)
    assert "the old model is less than 90.0 % sure of 40 of 40 short answers" in found.out
    assert all(likelihood(each) == pytest.approx(0.8187, abs=1e-4) for each in fetched.recordings(MODEL))


def test_source_without_logprobs_is_asked_without(
    source: OpenAISource, fetched: RescueFolder, tunery: Tunery, monkeypatch: pytest.MonkeyPatch
) -> None:
    source.trouble.refuse_logprobs = True
    found = tunery("rescue", "record", *TERMS, "--json")
    assert found.code == 0, found.err
    assert found.json["recorded"]["logprobs"] is False
    assert len(list(fetched.recordings(MODEL))) == 40


def test_source_s_own_name_of_the_limit_is_found_out_and_kept(
    source: OpenAISource, fetched: RescueFolder, tunery: Tunery
) -> None:
    source.trouble.wants_limit = "max_completion_tokens"
    assert tunery("rescue", "record", *TERMS).code == 0
    assert len(list(fetched.recordings(MODEL))) == 40
    assert fetched.inventory().scopes[0].max_tokens_field == "max_completion_tokens"
    forwarded = tunery("rescue", "serve", "--to", "forward", "--json").json
    assert forwarded["old"]["hosted"]["max_tokens_field"] == "max_completion_tokens"


def test_recording_ends_well_while_another_command_is_at_work(
    source: OpenAISource, fetched: RescueFolder, tunery: Tunery, home: Path
) -> None:
    source.trouble.wants_limit = "max_completion_tokens"
    with ExitStack() as held:

        def say(body: Mapping[str, Any]) -> str:
            with source.lock:
                if source.say is say:
                    held.enter_context(exclusive(home, "rescue-openai"))
                    source.say = answering
            return answering(body)

        source.say = say
        found = tunery("rescue", "record", *TERMS, "--json")
        assert (found.code, found.json["recorded"]["bought"]) == (0, 60)
        assert tunery("rescue", "fetch").code == 4  # it is at work, indeed
    assert fetched.inventory().scopes[0].max_tokens_field == "max_tokens"
    assert tunery("rescue", "record", "--json").json["recorded"]["bought"] == 0


def test_budget_ends_it_and_a_larger_one_goes_on(
    source: OpenAISource, fetched: RescueFolder, tunery: Tunery
) -> None:
    short = tunery("rescue", "record", *TERMS, "--max-tokens", "16", "--budget-tokens", "300")
    assert short.code == 6
    assert "the budget does not pay for it" in short.out
    there = [recording.portion for recording in fetched.recordings(MODEL)]
    assert 0 < len(there) < 40
    assert there.count("holdout") == min(20, len(there))  # it comes first
    assert tunery("rescue", "record", "--max-tokens", "16", "--yes").code == 0
    assert max(asked(source).values()) == 2  # the repeats
    assert len(list(fetched.recordings(MODEL))) == 40
    other = tunery("rescue", "record", "--max-tokens", "32", "--yes")
    assert other.code == 4
    assert "--max-tokens 16" in other.err


def test_own_logs_and_stored_completions_are_asked_too(
    source: OpenAISource, fetched: RescueFolder, tunery: Tunery, tmp_path: Path
) -> None:
    log = tmp_path / "log.csv"
    log.write_text("question,answer\n79190007919 from a log,label_1\n")
    source.stored.append(
        {
            "id": "chatcmpl-s1",
            "model": MODEL,
            "object": "chat.completion",
            "created": 1,
            "choices": [],
            "messages": [{"id": "m1", "role": "user", "content": "15838 was stored"}],
        }
    )
    found = tunery("rescue", "record", *TERMS, "--prompts", log, "--stored", "--json")
    assert found.code == 0, found.err
    origins = Counter(recording.origin for recording in fetched.recordings(MODEL))
    assert origins == {"training_file": 40, "log": 1, "stored": 1}


def test_bad_rows_are_named_and_left_out(
    source: OpenAISource, fetched: RescueFolder, tunery: Tunery, tmp_path: Path
) -> None:
    log = tmp_path / "log.jsonl"
    log.write_text('{"prompt": "79190007919 from a log"}\n{"prompt": 3}\n{\n')
    with fetched.file("file-trainAb1").open("a") as file:
        file.write('{"messages": [{"role": "user", "content": [7]}]}\n')
    source.stored.append(
        {"id": "chatcmpl-s1", "model": MODEL, "messages": [{"role": "system", "content": "Hi"}]}
    )
    found = tunery("rescue", "record", *TERMS, "--prompts", log, "--stored", "--json")
    assert found.code == 0, found.err
    training, *of_log, stored = found.json["recorded"]["left_out"]
    assert training.endswith("file-trainAb1: row 41: messages[0].content: must be text, or a list of parts")
    assert [line.split(": ")[:2] for line in of_log] == [[str(log), "row 3"], [str(log), "row 2"]]
    assert stored.startswith("stored completion chatcmpl-s1: no prompt found in it")
    assert Path(found.json["page"]).read_text().count("row 41: messages[0].content") == 1
    assert (
        "left out, 4 rows that could not be understood"
        in tunery("rescue", "record", "--prompts", log, "--stored").out
    )
    log.write_text('{"prompt": 3}\n')
    refused = tunery("rescue", "record", "--prompts", log)
    assert (refused.code, "row 1: no prompt found in it" in refused.err) == (2, True)
    fetched.file("file-trainAb1").write_bytes(b"\xff\xfe")  # what nobody here can mend is no error
    left = tunery("rescue", "record", "--json").json["recorded"]["left_out"]
    assert [line.partition(": ")[2] for line in left] == ["not UTF-8 text (byte 0)"]


def test_stored_completions_come_with_their_tools_many_at_once(
    source: OpenAISource, fetched: RescueFolder, tunery: Tunery
) -> None:
    function = {"type": "function", "function": {"name": "find", "parameters": {"type": "object"}}}
    call = {"id": "c1", "type": "function", "function": {"name": "find", "arguments": '{"parcel": 7}'}}
    turns = [
        {"role": "user", "content": "7919 where is it?"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "content": "in Ulm", "tool_call_id": "c1"},
    ]
    source.stored = [
        {
            "id": f"chatcmpl-s{n}",
            "model": MODEL,
            "messages": turns
            if n == 0
            else [{"role": "user", "content": f"{n * 15838} stored {n * 104729}"}],
            "tools": [function] if n < 2 else None,
        }
        for n in range(30)
    ]
    said = source.say
    source.say = lambda body: {"tool_calls": [call]} if body.get("tools") else said(body)
    source.trouble.latency_s = 0.05
    began = time.monotonic()
    read = asyncio.run(stored_prompts(fetched.inventory().scopes[0], MODEL))
    assert (len(read.found), read.left_out) == (30, [])
    assert time.monotonic() - began < 30 * 0.05  # what one after the other would take
    source.trouble.latency_s = 0.0
    found = tunery("rescue", "record", *TERMS, "--stored", "--json")
    assert found.code == 0, found.err
    kept = {str(r.messages[0]["content"]): r for r in fetched.recordings(MODEL) if r.origin == "stored"}
    assert len(kept) == 30
    assert found.json["recorded"]["tool_calls"] == 2
    whole = kept["7919 where is it?"]
    assert [turn["role"] for turn in whole.messages] == ["user", "assistant", "tool"]
    assert (whole.tools, whole.tool_calls) == ((function,), (call,))
    assert not kept[f"{2 * 15838} stored {2 * 104729}"].tools


def test_key_refused_says_which_one(source: OpenAISource, fetched: RescueFolder, tunery: Tunery) -> None:
    source.trouble.expired = True
    refused = tunery("rescue", "record", *TERMS)
    assert refused.code == 2
    assert "check the key in SOURCE_KEY" in refused.err
    assert KEY not in refused.err + refused.out


def test_rate_is_kept(source: OpenAISource, fetched: RescueFolder, tunery: Tunery) -> None:
    began = time.monotonic()
    assert tunery("rescue", "record", *TERMS, "--requests-per-minute", "3000").code == 0
    assert time.monotonic() - began > 59 / 50  # 60 requests, 50 a second


def test_killed_recording_goes_on_without_paying_twice(
    source: OpenAISource, fetched: RescueFolder, tunery: Tunery, home: Path
) -> None:
    slowly = ["--requests-per-minute", "1200", "--concurrency", "2"]
    command = [sys.executable, "-m", "tunery", "rescue", "record", *TERMS, *slowly]
    process = subprocess.Popen(command, env={**os.environ, "TUNERY_HOME": str(home)})
    while len(source.completions) < 15:
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    paid = (fetched.of_model(MODEL) / "journal.jsonl").read_text().count('"done"')
    assert tunery("rescue", "record", "--yes").code == 0
    assert len(list(fetched.recordings(MODEL))) == 40
    # Beyond the twenty repeats, only what was in flight at the kill may be asked again.
    assert len(source.completions) <= 60 + 2
    assert paid >= 15 - 2


def test_status_says_what_is_safe_and_what_would_be_lost_today(
    source: OpenAISource, fetched: RescueFolder, tunery: Tunery
) -> None:
    def losses() -> list[str]:
        found = tunery("rescue", "status", "--json")
        assert found.code == 0, found.err
        (model,) = found.json["status"]["models"]
        assert "Would be lost today" in Path(found.json["page"]).read_text()
        return [str(loss) for loss in model["lost_today"]]

    answers, service = losses()
    assert answers.startswith("its answers, all of them: tunery rescue record")
    assert "tunery rescue recipe" in service
    assert tunery("rescue", "record", *TERMS).code == 0
    assert losses() == [service]
    file = fetched.file("file-trainAb1")
    file.write_bytes(file.read_bytes() + b"\n")
    assert losses() == ["1 file of its job: tunery rescue fetch", service]
