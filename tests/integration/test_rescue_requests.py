"""Recording from this server's own log: with consent, once each, and without paying for what was answered."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.doubles.openai_source import KEY, OpenAISource, chat_row, serving
from tests.fixtures_cli import Tunery, home, tunery
from tests.integration.live_api import live
from tunery.rescue.folder import RescueFolder
from tunery.store.workspace import Workspace

__all__ = ["home", "tunery"]

MODEL = "ft:gpt-4o-mini-2024-07-18:acme::Ab1"
CALL = {"id": "call_x", "type": "function", "function": {"name": "find", "arguments": '{"parcel": 7}'}}
TOOLS = [{"type": "function", "function": {"name": "find", "parameters": {"type": "object"}}}]
YES = {"training_consent": "true"}


def answering(body: Mapping[str, Any]) -> str | Mapping[str, Any]:
    last = body["messages"][-1]
    if body.get("tools") and last["role"] == "user":
        return {"tool_calls": [CALL]}
    return f"about {last['content'].split()[1]}"


@pytest.fixture
def source(monkeypatch: pytest.MonkeyPatch) -> Iterator[OpenAISource]:
    monkeypatch.setenv("SOURCE_KEY", KEY)
    account = OpenAISource(say=answering)
    rows = [chat_row(f"question {n * 7919} about parcel {n * 104729}", f"label_{n % 3}") for n in range(12)]
    account.add_fine_tune("Ab1", rows)
    with serving(account):
        yield account


def test_forwarded_requests_are_prompts_and_their_answers_recordings(
    source: OpenAISource, home: Path, tunery: Tunery, tiny_model: Path
) -> None:
    assert tunery("rescue", "inventory", "--scope", f"base-url={source.url},key-env=SOURCE_KEY").code == 0
    assert tunery("rescue", "fetch").code == 0
    unknown = tunery("rescue", "record", "--terms-read", "--yes", "--from-requests")
    assert (unknown.code, "--to forward" in unknown.err) == (3, True)
    assert tunery("rescue", "serve", "--to", "forward").code == 0

    def ask(client: Any, *turns: Mapping[str, Any] | str, **more: Any) -> None:
        messages = [{"role": "user", "content": turn} if isinstance(turn, str) else turn for turn in turns]
        client.chat.completions.create(model=MODEL, messages=messages, max_tokens=16, **more)

    with closing(Workspace.open(home)) as workspace, live(workspace, tiny_model) as here:
        with here.client() as client:
            ask(client, "question 15485863 of a customer", metadata=YES)
            ask(client, "question 15485863 of a customer", metadata=YES)
            ask(client, "question 7919 about parcel 104729", metadata=YES)  # as in the training file
            brief = {"role": "system", "content": "Be brief."}
            ask(client, brief, "seek 32452843", tools=TOOLS, metadata=YES)
            result = {"role": "tool", "tool_call_id": "call_x", "content": "found 49979687 in Ulm"}
            called = {"role": "assistant", "content": None, "tool_calls": [CALL]}
            ask(client, "seek 67867967", called, result, tools=TOOLS, metadata=YES)
            ask(client, "question 86028121 of nobody who agreed")
            ask(client, "question 2038074743 unkept", store=False, metadata=YES)
            ask(client, "question 122949823 declined", metadata={"training_consent": "no"})
        here.app.state.services.gateway.log.flush()
    paid = Counter(json.dumps(body["messages"]) for body in source.completions)
    source.completions.clear()

    found = tunery("rescue", "record", "--terms-read", "--yes", "--from-requests", "--json")
    assert found.code == 0, found.err
    recorded = found.json["recorded"]
    assert recorded["skipped"] == {"consent_refused": 1, "no_consent": 1, "text_not_kept": 1}
    assert (recorded["given"], recorded["failed"]) == (4, {})
    # Eleven of the file's, and these a second time; nothing that was answered while it was forwarded to.
    again = Counter(json.dumps(body["messages"]) for body in source.completions)
    assert sorted(again.values()) == [2] * 11
    assert not paid.keys() & again.keys()
    folder = RescueFolder(home, "openai")
    kept = {str(r.messages[-1]["content"]): r for r in folder.recordings(MODEL)}
    assert Counter(r.origin for r in kept.values()) == {"training_file": 12, "requests": 3}
    of_file = kept["question 7919 about parcel 104729"]
    assert (of_file.answer, of_file.truth) == ("about 7919", "label_1")
    call = kept["seek 32452843"]
    assert [turn["role"] for turn in call.messages] == ["system", "user"]
    assert call.messages[0]["content"] == "Be brief."
    assert call.tools == tuple(TOOLS)
    assert json.loads(call.tool_calls[0]["function"]["arguments"]) == {"parcel": 7}
    whole = kept["found 49979687 in Ulm"]
    assert whole.messages[1]["tool_calls"][0]["id"] == whole.messages[2]["tool_call_id"]
    assert whole.answer == "about 49979687"

    before = {id: r.portion for id, r in ((r.id, r) for r in kept.values())}
    more = tunery("rescue", "record", "--from-requests", "--without-consent", "--yes", "--json")
    assert more.code == 0, more.err
    assert more.json["recorded"]["skipped"] == {"consent_refused": 1, "text_not_kept": 1}
    assert (more.json["recorded"]["given"], more.json["recorded"]["bought"]) == (5, 0)
    later = {r.id: r.portion for r in folder.recordings(MODEL)}
    assert {id: later[id] for id in before} == before
