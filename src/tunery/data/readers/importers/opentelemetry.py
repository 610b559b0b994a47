"""OpenTelemetry: chat rows from the traces of calls to a model, as OTLP writes them in JSON."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from tunery.core.example import SPLIT_HINT
from tunery.core.tool_text import NotACall, call_of, write_answer
from tunery.data.config import SourceConfig
from tunery.data.conversations.values import compact_json
from tunery.data.readers.importers.sampling import Sampler
from tunery.data.rows.refused import Refused, broken, unusable
from tunery.data.rows.row import RawRow, UnusableRow

_TOP = ("resourceSpans", "resourceLogs")
_SCOPES = ("scopeSpans", "scopeLogs", "instrumentationLibrarySpans")
_INDEXED = re.compile(
    r"^gen_ai\.(prompt|completion)\.(\d{1,4})\."
    r"(?:(role|content|finish_reason)|tool_calls\.(\d{1,4})\.(?:function\.)?(name|arguments))$"
)
_EVENT_ROLES = {
    "gen_ai.system.message": "system",
    "gen_ai.user.message": "user",
    "gen_ai.assistant.message": "assistant",
    "gen_ai.tool.message": "tool",
    "gen_ai.choice": "assistant",
}
_CUT = ("length", "content_filter", "error", "max_tokens")  # a tuple: what is looked for may be of any kind
_USER_KEYS = ("enduser.id", "user.id", "gen_ai.user.id", "enduser.pseudo.id")
_MAX_DEPTH = 20


def recognises(values: Mapping[str, Any]) -> bool:
    """Tell whether a row is an OTLP export, a part of one, or one span."""
    if any(isinstance(values.get(key), list) for key in (*_TOP, *_SCOPES)):
        return True
    return isinstance(values.get("attributes"), list) and "spanId" in values


def convert(rows: Iterator[RawRow], settings: SourceConfig) -> Iterator[RawRow]:
    """Yield one chat row for each traced call whose prompt and answer were captured.

    Spans that are no call to a model are passed over. A call gives no row, and is dropped with its reason,
    when it failed, was cut off, or was traced without its content. Of several answers the first is taken;
    calls of functions become text. Rows have ``user``, ``conversation`` and ``model`` beside ``messages``, to
    be mapped as ``group`` or ``metadata``, and go to the train split only: nobody has reviewed their answers.

    Args:
        rows: ``{"resourceSpans": […]}`` objects (a line each, or one file), or spans alone. Read are
            ``gen_ai.input.messages``, ``gen_ai.output.messages`` and ``gen_ai.system_instructions``, as span
            attributes or on an event; ``gen_ai.prompt`` and ``gen_ai.completion``, as attributes, numbered
            attributes or on ``gen_ai.content.*`` events; and ``gen_ai.<role>.message`` events.
        settings: Of the source; ``traffic`` is the rule for what is taken.

    Source:
        https://opentelemetry.io/docs/specs/otel/protocol/file-exporter (one export a line),
        https://opentelemetry.io/docs/specs/otlp/#json-protobuf-encoding,
        https://github.com/open-telemetry/semantic-conventions/blob/main/docs/gen-ai/gen-ai-spans.md, and for
        the older names https://opentelemetry.io/docs/specs/semconv/attributes-registry/gen-ai/
    """
    sampler = Sampler(settings.traffic)
    number = 0
    for row in rows:
        if isinstance(row.values, Refused):
            number += 1
            yield RawRow(number, row.values)
        elif not recognises(row.values):
            number += 1
            yield broken(number, f"row {row.number} of the file is no OTLP export of spans", row.values)
        else:
            for span, shared in _spans(row.values):
                attributes = {**shared, **_attributes(span.get("attributes"))}
                if _is_model_call(span, attributes):
                    number += 1
                    yield _row(number, span, attributes, sampler)


def _spans(values: Mapping[str, Any]) -> Iterator[tuple[Mapping[str, Any], dict[str, Any]]]:
    """Yield every span or log record with the attributes of its resource."""
    if "attributes" in values and not any(key in values for key in (*_TOP, *_SCOPES)):
        yield values, {}
        return
    for resource in [r for key in _TOP for r in _objects(values.get(key))] or [values]:
        about = resource.get("resource")
        shared = _attributes(about.get("attributes")) if isinstance(about, Mapping) else {}
        for scope in (s for key in _SCOPES for s in _objects(resource.get(key))):
            for span in [*_objects(scope.get("spans")), *_objects(scope.get("logRecords"))]:
                yield span, shared


def _objects(value: Any) -> list[Mapping[str, Any]]:
    return [v for v in value if isinstance(v, Mapping)] if isinstance(value, list) else []


def _attributes(value: Any) -> dict[str, Any]:
    """Return OTLP's list of key and typed value as a dictionary."""
    if isinstance(value, Mapping):  # some exporters write a plain object
        return dict(value)
    return {p["key"]: _plain(p.get("value"), 0) for p in _objects(value) if isinstance(p.get("key"), str)}


def _plain(value: Any, depth: int) -> Any:
    """Return an OTLP ``AnyValue`` as a Python value."""
    if depth > _MAX_DEPTH:
        return None
    if not isinstance(value, Mapping):
        return value
    for key in ("stringValue", "boolValue", "doubleValue", "bytesValue"):
        if key in value:
            return value[key]
    if "intValue" in value:  # 64-bit integers are written as strings
        text = str(value["intValue"])
        return int(text) if re.fullmatch(r"-?\d{1,20}", text) else text
    if "arrayValue" in value:
        return [_plain(v, depth + 1) for v in _values(value["arrayValue"])]
    if "kvlistValue" in value:
        pairs = _values(value["kvlistValue"])
        return {str(p.get("key")): _plain(p.get("value"), depth + 1) for p in pairs}
    return None


def _values(inner: Any) -> list[Mapping[str, Any]]:
    return _objects(inner.get("values")) if isinstance(inner, Mapping) else []


def _is_model_call(span: Mapping[str, Any], attributes: Mapping[str, Any]) -> bool:
    operation = attributes.get("gen_ai.operation.name")
    if operation is not None and operation not in ("chat", "text_completion", "generate_content"):
        return False  # embeddings, tools and the agents around calls
    events = (e.get("name") for e in _objects(span.get("events")))
    return any(str(name).startswith("gen_ai.") for name in (*attributes, *events))


def _row(number: int, span: Mapping[str, Any], attributes: Mapping[str, Any], sampler: Sampler) -> RawRow:
    identity = str(attributes.get("gen_ai.response.id") or span.get("spanId") or number)
    user = next((str(attributes[k]) for k in _USER_KEYS if attributes.get(k) is not None), None)
    try:
        messages = _messages(span, attributes, f"span {identity:.80}")
        why = sampler.skip(identity, user, attributes)
    except UnusableRow as unfit:
        why = unfit.drop
    if why is not None:
        names = {k: span[k] for k in ("traceId", "spanId", "name") if k in span}
        return unusable(number, why.reason, why.detail, names)
    return RawRow(
        number,
        {
            "messages": messages,
            "tools": _loads(attributes.get("gen_ai.tool.definitions")),
            "user": user,
            "conversation": attributes.get("gen_ai.conversation.id") or attributes.get("session.id"),
            "model": attributes.get("gen_ai.response.model") or attributes.get("gen_ai.request.model"),
            "span_id": span.get("spanId"),
            "metadata": {SPLIT_HINT: "train"},
        },
    )


def _messages(span: Mapping[str, Any], attributes: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    status = span.get("status")
    if attributes.get("error.type") or (
        isinstance(status, Mapping) and status.get("code") in (2, "STATUS_CODE_ERROR")
    ):
        raise UnusableRow("request_failed", f"{name} ended in an error")
    reasons = attributes.get("gen_ai.response.finish_reasons")
    _check_whole(next(iter(reasons), None) if isinstance(reasons, list) else reasons, name)
    captured = next((c for c in _captured(span, attributes) if c.prompt and c.answers), None)
    if captured is None:
        raise UnusableRow("content_not_captured", f"{name} was traced without its prompt or its answer")
    turns = [_turn(t, name) for t in captured.prompt]
    answer = _turn(captured.answers[0], name)
    _check_whole(captured.answers[0].get("finish_reason"), name)
    system = _loads(attributes.get("gen_ai.system_instructions"))
    if system and not any(t["role"] == "system" for t in turns):
        parts = system if isinstance(system, list) else [system]
        turns.insert(0, _turn({"role": "system", "parts": parts}, name))
    for turn in turns:
        if turn["role"] == "assistant":
            turn["weight"] = 0
    return [*turns, {"role": "assistant", "content": answer["content"]}]


def _check_whole(reason: Any, name: str) -> None:
    if reason in _CUT:
        raise UnusableRow("answer_cut", f"{name}: its answer ended by {reason}")


class _Captured(NamedTuple):
    """Turns as one version of the conventions writes them; empty where it is not the one in use."""

    prompt: Sequence[Mapping[str, Any]]
    answers: Sequence[Mapping[str, Any]]


def _captured(span: Mapping[str, Any], attributes: Mapping[str, Any]) -> Iterator[_Captured]:
    """Yield prompt and answers from every place that some version of the conventions has for them."""
    events = [(str(e.get("name")), _attributes(e.get("attributes"))) for e in _objects(span.get("events"))]
    for place in (attributes, *(a for _, a in events)):
        yield _pair(place, "gen_ai.input.messages", "gen_ai.output.messages")
    merged = dict(attributes)
    for name, more in events:
        if name in ("gen_ai.content.prompt", "gen_ai.content.completion"):
            merged.update(more)
    yield _pair(merged, "gen_ai.prompt", "gen_ai.completion")
    yield _numbered(attributes)
    turns = [(n, {"role": _EVENT_ROLES[n], **_body(a)}) for n, a in events if n in _EVENT_ROLES]
    choices = [t for n, t in turns if n == "gen_ai.choice"]
    yield _Captured([t for n, t in turns if n != "gen_ai.choice"], choices)


def _pair(place: Mapping[str, Any], prompt: str, answers: str) -> _Captured:
    return _Captured(_turns(place.get(prompt), "user"), _turns(place.get(answers), "assistant"))


def _body(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Return content and tool calls of a message event; a choice wraps them in ``message``."""
    message = _loads(attributes.get("message"))
    body = {**attributes, **message} if isinstance(message, Mapping) else attributes
    return {k: body[k] for k in ("content", "tool_calls", "finish_reason") if body.get(k) is not None}


def _numbered(attributes: Mapping[str, Any]) -> _Captured:
    """Return turns written as ``gen_ai.prompt.0.role``, ``gen_ai.prompt.0.content`` and so on."""
    sides: dict[str, dict[int, dict[str, Any]]] = {"prompt": {}, "completion": {}}
    for key, value in attributes.items():
        matched = _INDEXED.match(str(key))
        if not matched:
            continue
        side, index, part, call, call_part = matched.groups()
        turn = sides[side].setdefault(int(index), {"role": "user" if side == "prompt" else "assistant"})
        if part:
            turn[part] = value
        else:
            turn.setdefault("tool_calls", {}).setdefault(int(call), {})[call_part] = value
    for turn in (*sides["prompt"].values(), *sides["completion"].values()):
        if "tool_calls" in turn:
            turn["tool_calls"] = [call for _, call in sorted(turn["tool_calls"].items())]
    return _Captured(*([turn for _, turn in sorted(sides[side].items())] for side in sides))


def _turns(value: Any, role: str) -> list[Mapping[str, Any]]:
    """Return a list of turns from a structured value, from JSON, or from a bare text."""
    value = _loads(value)
    if isinstance(value, str) and value.strip():
        return [{"role": role, "content": value}]
    if isinstance(value, Mapping):
        inner = value.get("messages")
        value = inner if isinstance(inner, list) else [value]
    return [{"role": role, **t} for t in _objects(value)]


def _loads(value: Any) -> Any:
    if not isinstance(value, str) or not value.lstrip().startswith(("[", "{")):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return value


def _turn(turn: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Return a turn as role and text, calls included; reasoning is left out, it is no part of the answer.

    Raises:
        UnusableRow: Its calls cannot be read, or it holds something that is no text.
    """
    role = str(turn.get("role"))
    content = turn.get("content")
    parts = turn.get("parts") if isinstance(turn.get("parts"), list) else content
    given = [c.get("function", c) for c in _objects(_loads(turn.get("tool_calls")))]
    called = _objects(given)
    if len(called) != len(given) or (turn.get("tool_calls") and not called):
        raise UnusableRow("tool_call", f"{name} calls a tool, and how cannot be read")
    if not isinstance(parts, list):
        parts = [parts] if isinstance(parts, str) else []
    texts = []
    for part in parts:
        kind = part.get("type") if isinstance(part, Mapping) else None
        if kind == "tool_call":
            called.append(part)
        elif kind == "tool_call_response":
            result = part.get("response", part.get("result"))
            texts.append(result if isinstance(result, str) else compact_json(result))
        elif kind != "reasoning":
            text = (part.get("content") or part.get("text")) if kind == "text" else part
            if not isinstance(text, str):
                raise UnusableRow("not_text", f"{name} holds a part of type {kind!r}, where text is expected")
            texts.append(text)
    try:
        calls = [call_of(c.get("name"), c.get("arguments")) for c in called]
    except NotACall as error:
        raise UnusableRow("tool_call", f"{name}: {error}") from None
    return {"role": role, "content": write_answer("".join(texts), calls)}
