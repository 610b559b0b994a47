"""Exports of other programs: every known form becomes the rows its users mean."""

from __future__ import annotations

import json
import pickle
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.plugins import add_plugin
from tunery.core.errors import ConfigError, NotFoundError, ResourceError
from tunery.core.example import Message
from tunery.core.progress import Silent
from tunery.core.rollout import RequestRecord
from tunery.core.tool_text import describe
from tunery.data.config import ColumnsConfig, SourceConfig, TrafficConfig
from tunery.data.conversations.parse import parse_row
from tunery.data.conversations.shapes import map_columns, wanted_columns
from tunery.data.readers.importers.recognise import importer, recognise
from tunery.data.readers.importers.request_log import write_traffic
from tunery.data.readers.reading import Reading, iterate
from tunery.data.readers.source import locate
from tunery.data.rows.refused import Refused
from tunery.data.rows.row import RawRow, UnusableRow

FREE = TrafficConfig(require_consent=False, per_user=None)


def raw(folder: Path, rows: list[Any], **settings: Any) -> list[RawRow]:
    path = folder / "a.jsonl"
    path.write_text("\n".join(json.dumps(r) for r in rows), encoding="utf-8")
    source = SourceConfig.model_validate({"path": "a.jsonl", **settings})
    return list(iterate(locate(source, folder), wanted_columns(source.columns)))


def read(
    folder: Path, rows: list[Any], **settings: Any
) -> tuple[list[list[tuple[str, str, int]]], list[str]]:
    """Return the conversations of a file, and why its other rows gave none."""
    source = SourceConfig.model_validate({"path": "a.jsonl", **settings})
    mapped = None
    conversations, dropped = [], []
    for row in raw(folder, rows, **settings):
        mapped = mapped or map_columns(source, row.values)
        try:
            found = parse_row(row, mapped, source)
        except UnusableRow as unusable:
            dropped.append(unusable.drop.reason)
        else:
            conversations.append([(m.role, m.content, m.weight) for m in found.turns])
    return conversations, dropped


def exchange(question: str, answer: str) -> list[tuple[str, str, int]]:
    return [("user", question, 1), ("assistant", answer, 1)]


# Argilla.


def argilla(responses: Any, **more: Any) -> dict[str, Any]:
    return {
        "id": "1",
        "fields": {"text": "Where is my card?"},
        "metadata": {"source": "mail"},
        "suggestions": {"label": {"value": "guess", "score": 0.9, "agent": "model"}},
        "responses": responses,
        "vectors": {},
        "_server_id": "s",
        **more,
    }


def test_argillas_forms_mean_the_same(tmp_path: Path) -> None:
    by_question = argilla({"label": [{"value": "card_arrival", "user_id": "u1"}]})
    by_user = argilla(
        [
            {"user_id": "u1", "status": "submitted", "values": {"label": {"value": "card_arrival"}}},
            {"user_id": "u2", "status": "draft", "values": {"label": {"value": "other"}}},
            {"user_id": "u3", "status": "discarded", "values": {}},
        ]
    )
    flat = {
        "id": "1",
        "status": "completed",
        "_server_id": "s",
        "text": "Where is my card?",
        "label.responses": ["card_arrival", "other"],
        "label.responses.users": ["u1", "u2"],
        "label.responses.status": ["submitted", "discarded"],
        "label.suggestion": "guess",
        "label.suggestion.score": 0.9,
    }
    for record in (by_question, by_user, flat):
        assert recognise(record, "a.jsonl") == "argilla"
        conversations, dropped = read(tmp_path, [record])
        assert conversations == [exchange("Where is my card?", "card_arrival")]
        assert dropped == []


def test_of_several_reviewers_the_majority_counts_and_a_tie_is_dropped(tmp_path: Path) -> None:
    def votes(*labels: str) -> dict[str, Any]:
        return argilla({"label": [{"value": v, "user_id": str(i)} for i, v in enumerate(labels)]})

    conversations, dropped = read(tmp_path, [votes("a", "b", "a"), votes("a", "b"), votes(), argilla(None)])
    assert conversations == [exchange("Where is my card?", "a")]
    assert dropped == ["reviewers_disagree", "not_reviewed", "not_reviewed"]


def test_a_suggestion_is_never_an_answer(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="not_reviewed, nobody submitted an answer"):
        raw(tmp_path, [argilla({})])


def test_several_questions_are_mapped_by_name(tmp_path: Path) -> None:
    record = argilla({"label": [{"value": "a"}], "text": [{"value": "better words"}]})
    conversations, _ = read(tmp_path, [record], columns={"input": "text.answer", "output": "label"})
    assert conversations == [exchange("better words", "a")]
    with pytest.raises(ConfigError, match="cannot tell how to read rows with the columns"):
        read(tmp_path, [record])


def test_a_chat_field_is_the_prompt_of_a_chat_row(tmp_path: Path) -> None:
    chat = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]
    record = argilla({"reply": [{"value": "Hello"}]}, fields={"chat": chat})
    conversations, _ = read(tmp_path, [record])
    assert conversations == [[("system", "Be brief.", 1), *exchange("Hi", "Hello")]]


# Label Studio.


def task(*annotations: dict[str, Any], **data: Any) -> dict[str, Any]:
    return {
        "id": 1,
        "data": data or {"text": "Where is my card?"},
        "annotations": list(annotations),
        "project": 8,
    }


def result(value: Any, kind: str = "choices", name: str = "intent") -> dict[str, Any]:
    key = {"choices": "choices", "textarea": "text", "rating": "rating"}.get(kind, kind)
    return {"from_name": name, "to_name": "text", "type": kind, "value": {key: value}, "origin": "manual"}


def by(person: int, *results: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"id": person, "completed_by": person, "result": list(results), "was_cancelled": False, **more}


def test_label_studio_choices_and_texts_become_answers(tmp_path: Path) -> None:
    rows = [
        task(by(1, result(["card_arrival"]))),
        task(by(1, result(["Two", "lines"], "textarea"))),
        task(by(1, result(["a"])), by(2, result(["b"])), by(3, result(["b"]))),
        task(by(1, result(["a"])), by(2, result(["b"], name="intent"), ground_truth=True)),
        task(by(1, result(["a"]), was_cancelled=True), by(2, result(["b"]))),
    ]
    assert recognise(rows[0], "a.jsonl") == "label_studio"
    conversations, dropped = read(tmp_path, rows)
    assert [s[-1][1] for s in conversations] == ["card_arrival", "Two\nlines", "b", "b", "b"]
    assert dropped == []


def test_label_studio_tasks_without_a_usable_answer_are_dropped(tmp_path: Path) -> None:
    box = {"type": "rectanglelabels", "from_name": "tag", "value": {"rectanglelabels": ["x"], "x": 1}}
    rows = [
        task(by(1, result(["a"]))),
        task(),
        task(by(1, box)),
        task(by(1, result(["a"])), by(2, result(["b"]))),
        {**task(), "predictions": [by(0, result(["guess"]))]},
    ]
    conversations, dropped = read(tmp_path, rows)
    assert len(conversations) == 1
    assert dropped == ["not_reviewed", "not_reviewed", "reviewers_disagree", "not_reviewed"]


def test_label_studio_arrays_are_read_and_columns_mapped(tmp_path: Path) -> None:
    rows = [task(by(1, result(["a"]), result(4, "rating", "stars")), question="Q?", page="http://x")]
    path = tmp_path / "a.json"
    path.write_text(json.dumps(rows, indent=1))
    source = SourceConfig(path="a.json", columns=ColumnsConfig(input="question", output="intent"))
    (row,) = iterate(locate(source, tmp_path), wanted_columns(source.columns))
    assert row.values == {"question": "Q?", "page": "http://x", "intent": "a", "stars": 4}


# OpenTelemetry.


def value(given: Any) -> dict[str, Any]:
    """Return a value as OTLP writes it."""
    if isinstance(given, bool):
        return {"boolValue": given}
    if isinstance(given, str):
        return {"stringValue": given}
    if isinstance(given, int):
        return {"intValue": str(given)}
    if isinstance(given, list):
        return {"arrayValue": {"values": [value(v) for v in given]}}
    return {"kvlistValue": {"values": pairs(given)}}


def pairs(attributes: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"key": k, "value": value(v)} for k, v in attributes.items()]


def span(
    attributes: dict[str, Any], events: list[tuple[str, dict[str, Any]]] = (), **more: Any
) -> dict[str, Any]:  # type: ignore[assignment]
    return {
        "traceId": "4bf92f3577b34da6a3ce929d0e0e4736",
        "spanId": "00f067aa0ba902b7",
        "name": "chat m",
        "attributes": pairs(attributes),
        "events": [{"name": n, "attributes": pairs(a)} for n, a in events],
        **more,
    }


def otlp(*spans: dict[str, Any], **resource: Any) -> dict[str, Any]:
    scope = {"scope": {"name": "openai"}, "spans": list(spans)}
    return {"resourceSpans": [{"resource": {"attributes": pairs(resource)}, "scopeSpans": [scope]}]}


def text(role: str, content: str, **more: Any) -> dict[str, Any]:
    return {"role": role, "parts": [{"type": "text", "content": content}], **more}


CHAT = {"gen_ai.operation.name": "chat", "gen_ai.request.model": "m"}
IN = [text("user", "Hi")]
OUT = [text("assistant", "Hello", finish_reason="stop")]


@pytest.mark.parametrize(
    ("attributes", "events"),
    [
        ({"gen_ai.input.messages": json.dumps(IN), "gen_ai.output.messages": json.dumps(OUT)}, []),
        ({"gen_ai.input.messages": IN, "gen_ai.output.messages": OUT}, []),
        (
            {},
            [
                (
                    "gen_ai.client.inference.operation.details",
                    {"gen_ai.input.messages": IN, "gen_ai.output.messages": OUT},
                )
            ],
        ),
        (
            {
                "gen_ai.prompt": '[{"role": "user", "content": "Hi"}]',
                "gen_ai.completion": '[{"role": "assistant", "content": "Hello"}]',
            },
            [],
        ),
        (
            {},
            [
                ("gen_ai.content.prompt", {"gen_ai.prompt": '[{"role": "user", "content": "Hi"}]'}),
                ("gen_ai.content.completion", {"gen_ai.completion": "Hello"}),
            ],
        ),
        (
            {
                "gen_ai.completion.0.role": "assistant",
                "gen_ai.completion.0.content": "Hello",
                "gen_ai.prompt.0.role": "user",
                "gen_ai.prompt.0.content": "Hi",
            },
            [],
        ),
        (
            {},
            [
                ("gen_ai.user.message", {"content": "Hi"}),
                ("gen_ai.choice", {"index": 0, "message": '{"role": "assistant", "content": "Hello"}'}),
            ],
        ),
    ],
)
def test_every_version_of_the_conventions_gives_the_same_conversation(
    tmp_path: Path, attributes: dict[str, Any], events: list[tuple[str, dict[str, Any]]]
) -> None:
    exported = otlp(span({**CHAT, **attributes}, events))
    assert recognise(exported, "a.jsonl") == "opentelemetry"
    conversations, dropped = read(tmp_path, [exported], traffic=FREE)
    assert conversations == [exchange("Hi", "Hello")]
    assert dropped == []


def test_system_instructions_earlier_answers_and_reasoning(tmp_path: Path) -> None:
    thought = {"type": "reasoning", "content": "They greet."}
    attributes = {
        **CHAT,
        "gen_ai.system_instructions": json.dumps([{"type": "text", "content": "Be brief."}]),
        "gen_ai.input.messages": json.dumps(
            [text("user", "Hi"), text("assistant", "Yes?"), text("user", "Bye")]
        ),
        "gen_ai.output.messages": json.dumps(
            [{"role": "assistant", "parts": [thought, {"type": "text", "content": "Bye."}]}]
        ),
    }
    conversations, _ = read(tmp_path, [otlp(span(attributes))], traffic=FREE)
    assert conversations == [
        [
            ("system", "Be brief.", 1),
            ("user", "Hi", 1),
            ("assistant", "Yes?", 0),
            ("user", "Bye", 1),
            ("assistant", "Bye.", 1),
        ]
    ]


def test_functions_their_calls_and_results_become_text(tmp_path: Path) -> None:
    turns_with_call = [
        {"role": "user", "parts": [{"type": "text", "content": "Time?"}]},
        {
            "role": "assistant",
            "parts": [{"type": "tool_call", "id": "c", "name": "now", "arguments": {"zone": "UTC"}}],
        },
        {"role": "tool", "parts": [{"type": "tool_call_response", "id": "c", "response": {"at": "12:00"}}]},
    ]
    attributes = {
        **CHAT,
        "gen_ai.input.messages": json.dumps(turns_with_call),
        "gen_ai.output.messages": OUT,
        "gen_ai.tool.definitions": json.dumps([{"type": "function", "name": "now"}]),
    }
    conversations, _ = read(tmp_path, [otlp(span(attributes))], traffic=FREE)
    assert conversations == [
        [
            ("system", describe([{"type": "function", "name": "now"}]), 1),
            ("user", "Time?", 1),
            ("assistant", '<tool_call>{"name":"now","arguments":{"zone":"UTC"}}</tool_call>', 0),
            ("tool", '{"at":"12:00"}', 1),
            ("assistant", "Hello", 1),
        ]
    ]


def test_calls_in_numbered_attributes_become_text(tmp_path: Path) -> None:
    attributes = {
        **CHAT,
        "gen_ai.prompt.0.role": "user",
        "gen_ai.prompt.0.content": "Weather?",
        "gen_ai.prompt.1.role": "assistant",
        "gen_ai.prompt.1.tool_calls.0.name": "now",
        "gen_ai.prompt.2.role": "tool",
        "gen_ai.prompt.2.content": "12:00",
        "gen_ai.completion.0.role": "assistant",
        "gen_ai.completion.0.content": "Let me check.",
        "gen_ai.completion.0.tool_calls.0.name": "weather",
        "gen_ai.completion.0.tool_calls.0.arguments": '{"city": "Paris"}',
    }
    conversations, _ = read(tmp_path, [otlp(span(attributes))], traffic=FREE)
    assert conversations == [
        [
            ("user", "Weather?", 1),
            ("assistant", '<tool_call>{"name":"now","arguments":{}}</tool_call>', 0),
            ("tool", "12:00", 1),
            (
                "assistant",
                'Let me check.\n<tool_call>{"name":"weather","arguments":{"city":"Paris"}}</tool_call>',
                1,
            ),
        ]
    ]


def test_calls_that_teach_nothing_are_dropped_and_other_spans_are_no_rows(tmp_path: Path) -> None:
    good = {**CHAT, "gen_ai.input.messages": IN, "gen_ai.output.messages": OUT}
    call = [{"role": "assistant", "parts": [{"type": "tool_call", "arguments": {}}]}]
    image = [{"role": "user", "parts": [{"type": "uri", "modality": "image", "uri": "http://x"}]}]
    exported = otlp(
        span(good),
        span({"http.method": "GET"}),
        span({"gen_ai.operation.name": "embeddings"}),
        span(CHAT),
        span(good, status={"code": 2}),
        span({**good, "gen_ai.response.finish_reasons": ["length"]}),
        span({**good, "gen_ai.output.messages": call}),
        span({**good, "gen_ai.input.messages": image}),
    )
    conversations, dropped = read(tmp_path, [exported], traffic=FREE)
    assert conversations == [exchange("Hi", "Hello")]
    assert dropped == ["content_not_captured", "request_failed", "answer_cut", "tool_call", "not_text"]


def test_one_big_export_is_read_span_by_span_from_a_json_file(tmp_path: Path) -> None:
    good = {
        **CHAT,
        "gen_ai.input.messages": IN,
        "gen_ai.output.messages": OUT,
        "gen_ai.conversation.id": "c7",
    }
    exported = otlp(span(good), span({**good, "user.id": "u1"}), **{"service.name": "shop"})
    exported["resourceSpans"] *= 500
    path = tmp_path / "traces.json"
    path.write_text(json.dumps(exported, indent=1))
    source = SourceConfig(path="traces.json", traffic=FREE, max_row_bytes=100_000)
    assert path.stat().st_size > 10 * source.max_row_bytes
    rows = list(iterate(locate(source, tmp_path), ()))
    assert [r.number for r in rows] == list(range(1, 1001))
    about = {k: rows[1].values[k] for k in ("user", "conversation", "model")}
    assert about == {"user": "u1", "conversation": "c7", "model": "m"}
    assert rows[1].values["metadata"] == {"split_hint": "train"}


# The gateway's own request log.


def request(number: int = 1, **more: Any) -> RequestRecord:
    return RequestRecord.model_validate(
        {
            "id": f"chatcmpl-{number}",
            "created_at": datetime(2026, 1, 1, tzinfo=UTC),
            "endpoint": "bot",
            "model": "bot@1",
            "subject": f"user{number}",
            "messages": (Message(role="user", content="Hi"),),
            "completion": "Hello",
            "status": "ok",
            "finish_reason": "stop",
            "metadata": {"training_consent": "true"},
            **more,
        }
    )


def dumped(*requests: RequestRecord) -> list[dict[str, Any]]:
    return [r.model_dump(mode="json") for r in requests]


def test_served_calls_with_consent_become_chat_rows_for_training_only(tmp_path: Path) -> None:
    turns = ("Hi", "Hello?", "Who?")
    roles = ("user", "assistant", "user")
    long = request(messages=tuple(Message(role=r, content=t) for r, t in zip(roles, turns, strict=True)))  # type: ignore[arg-type]
    rows = dumped(long, request(2, metadata={}), request(3, metadata={"training_consent": "no"}))
    assert recognise(rows[0], "a.jsonl") == "request_log"
    conversations, dropped = read(tmp_path, rows)
    assert conversations == [
        [("user", "Hi", 1), ("assistant", "Hello?", 0), ("user", "Who?", 1), ("assistant", "Hello", 1)]
    ]
    assert dropped == ["no_consent", "consent_refused"]
    freely = read(tmp_path, rows, traffic={"require_consent": False})
    assert (len(freely[0]), freely[1]) == (2, ["consent_refused"])
    assert raw(tmp_path, rows)[0].values["metadata"]["split_hint"] == "train"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"status": "error"}, "request_failed"),
        ({"status": "cancelled"}, "request_failed"),
        ({"messages": ()}, "text_not_kept"),
        ({"finish_reason": "length"}, "answer_cut"),
        ({"format_valid": False}, "format_invalid"),
        ({"completion": " "}, "empty_output"),
    ],
)
def test_calls_with_nothing_to_learn_are_dropped(tmp_path: Path, change: dict[str, Any], reason: str) -> None:
    assert read(tmp_path, dumped(request(), request(2, **change)))[1] == [reason]


def test_no_user_gives_more_than_their_share(tmp_path: Path) -> None:
    rows = dumped(*(request(i, subject="loud" if i % 10 else "quiet") for i in range(100)))
    conversations, dropped = read(tmp_path, rows, traffic={"per_user": 7})
    assert len(conversations) == 14
    assert dropped == ["user_over_limit"] * 86


def test_the_share_is_drawn_by_id_the_same_every_time_and_grows_without_losing_rows(tmp_path: Path) -> None:
    rows = dumped(*(request(i) for i in range(2000)))

    def taken(share: float) -> set[str]:
        found = raw(tmp_path, rows, traffic={"share": share})
        return {r.values["request_id"] for r in found if not isinstance(r.values, Refused)}

    tenth, fifth = taken(0.1), taken(0.2)
    # 2,000 draws at 0.1: four standard deviations are 54.
    assert abs(len(tenth) - 200) < 54
    assert tenth < fifth
    assert taken(0.1) == tenth


def test_written_traffic_is_read_as_the_log_itself_is(tmp_path: Path) -> None:
    requests = [
        request(i, subject=f"u{i % 3}", metadata={"training_consent": str(i % 2 == 0)}) for i in range(40)
    ]
    rule = TrafficConfig(share=0.7, per_user=5)
    out = tmp_path / "traffic.jsonl"
    summary = write_traffic(iter(requests), out, rule)
    direct, dropped = read(tmp_path, dumped(*requests), traffic=rule)
    written = [json.loads(line) for line in out.read_text().splitlines()]
    assert summary.rows == len(written) == len(direct) > 5
    reading = Reading(locate(SourceConfig(path=str(out)), Path()), Silent())
    assert sum(map(len, reading.chunks())) == len(written)
    assert reading.warnings() == []  # where a call came from is no column to map
    assert sum(summary.skipped.values()) == len(dropped)
    assert read(tmp_path, written)[0] == direct
    assert not list(tmp_path.glob(".*.partial"))
    with pytest.raises(ResourceError, match="cannot write"):
        write_traffic(requests, tmp_path / "none" / "a.jsonl", rule)
    with pytest.raises(NotFoundError, match="no such request"):
        write_traffic([], out, rule)
    assert len(out.read_text().splitlines()) == summary.rows


# What holds for all of them.


def test_an_export_may_be_taken_as_it_is_or_named(tmp_path: Path) -> None:
    record = argilla({"label": [{"value": "a"}]})
    assert raw(tmp_path, [record], export="none")[0].values == record
    assert raw(tmp_path, [record], export="argilla")[0].values["output"] == "a"
    with pytest.raises(ConfigError, match="a task needs data"):
        raw(tmp_path, [record], export="label_studio")


TICKETS = """
    from tunery.data.rows.row import RawRow

    def recognises(values):
        return "ticket" in values and "resolution" in values

    def convert(rows, settings):
        for row in rows:
            yield RawRow(row.number, {"input": row.values["ticket"], "output": row.values["resolution"]})
"""


def test_one_more_program_is_one_more_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = "tunery.data.readers.importers"
    ticket = {"ticket": "Where is my card?", "resolution": "card_arrival"}
    with pytest.raises(ValueError, match="must be one of auto, none, argilla"):
        raw(tmp_path, [ticket], export="tickets")
    add_plugin(monkeypatch, tmp_path / "more", package, name="tickets", source=TICKETS)
    for export in ("auto", "tickets"):
        assert read(tmp_path, [ticket], export=export) == ([exchange(*ticket.values())], [])
    assert raw(tmp_path, [ticket], export="none")[0].values == ticket
    assert "tickets" in SourceConfig.model_json_schema()["properties"]["export"]["enum"]


def test_a_row_that_two_programs_may_have_written_is_not_guessed(tmp_path: Path) -> None:
    record = {**argilla({"label": [{"value": "a"}]}), **task(by(1, result(["a"])))}
    with pytest.raises(ConfigError, match="its first row may be an export of argilla or label_studio"):
        raw(tmp_path, [record])
    assert raw(tmp_path, [record], export="argilla")[0].values["output"] == "a"


def test_plain_rows_are_no_export() -> None:
    for row in (
        {"input": "a", "output": "b"},
        {"messages": [], "status": "ok"},
        {"data": "x", "annotations": "y"},
        {"fields": "x", "responses": "y"},
        {"text": "a", "attributes": {"spanId": 1}},
    ):
        assert recognise(row, "a.jsonl") is None


def odd() -> Iterator[Any]:
    """Yield values that no export should hold where something else is expected."""
    yield from (None, 5, "x", [], [1], {}, {"a": None}, [[]], [{}], [{"value": 1}], "[{]", {"values": {}})


@pytest.mark.parametrize(
    ("kind", "record"),
    [
        ("argilla", argilla({"label": [{"value": "a"}]})),
        ("label_studio", task(by(1, result(["a"])))),
        ("request_log", dumped(request())[0]),
        ("opentelemetry", span({**CHAT, "gen_ai.input.messages": IN, "gen_ai.output.messages": OUT})),
        ("opentelemetry", otlp(span({**CHAT, "gen_ai.prompt": "Hi", "gen_ai.completion": "Hello"}))),
    ],
)
def test_a_record_with_any_part_replaced_breaks_nothing(kind: str, record: dict[str, Any]) -> None:
    settings = SourceConfig(path="a.jsonl", traffic=FREE)

    def variants(node: Any) -> Iterator[Any]:
        """Yield copies of a value in which one part, at any depth, is something odd."""
        yield from odd()
        if isinstance(node, dict):
            for key, inner in node.items():
                yield from ({**node, key: v} for v in variants(inner))
        elif isinstance(node, list):
            for i, inner in enumerate(node):
                yield from ([*node[:i], v, *node[i + 1 :]] for v in variants(inner))

    tried = 0
    for variant in variants(record):
        if isinstance(variant, dict):
            tried += 1
            for row in importer(kind).convert(iter([RawRow(1, variant)]), settings):
                assert isinstance(row, RawRow)
    assert tried > 50


def test_refused_rows_survive_a_trip_to_another_process(tmp_path: Path) -> None:
    rows = raw(tmp_path, [{"input": "a", "output": "b"}, [1], 5])
    again = pickle.loads(pickle.dumps(rows))
    assert [r.values for r in again] == [r.values for r in rows]
    assert isinstance(again[1].values, Refused)
    assert again[1].values.error.flaws == rows[1].values.error.flaws  # type: ignore[union-attr, attr-defined]


def test_calls_that_are_no_objects_are_left_out_not_guessed(tmp_path: Path) -> None:
    attributes = {
        **CHAT,
        "gen_ai.input.messages": IN,
        "gen_ai.output.messages": [{"role": "assistant", "content": "x", "tool_calls": [{"function": "f"}]}],
    }
    good = {**CHAT, "gen_ai.input.messages": IN, "gen_ai.output.messages": OUT}
    conversations, dropped = read(tmp_path, [otlp(span(good), span(attributes))], traffic=FREE)
    assert (len(conversations), dropped) == (1, ["tool_call"])
