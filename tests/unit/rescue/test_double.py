"""The double of a source answers as the client's own types have it, which the client does not validate."""

from __future__ import annotations

from collections.abc import Iterable

import openai
import pytest
from pydantic import BaseModel, TypeAdapter

from tests.doubles.openai_source import KEY, OpenAISource, chat_row, serving


def valid(items: Iterable[BaseModel]) -> int:
    """Return how many there are, each valid by its own type."""
    found = list(items)
    for item in found:
        plain = item.model_dump()
        if not any((plain.get("error") or {}).values()):
            plain["error"] = None  # of jobs that did not fail it is {} at OpenAI, against its client's type
        TypeAdapter(type(item)).validate_python(plain)
    return len(found)


def test_what_the_double_answers_is_valid_by_the_clients_types() -> None:
    source = OpenAISource()
    model = source.add_fine_tune("Ab1", [chat_row("hello", "world")], validation=[chat_row("a", "b")])
    source.add_fine_tune("Cd2", [chat_row("hello", "world")], status="failed", method="dpo")
    source.trouble.page = 2
    with serving(source), openai.OpenAI(base_url=source.url, api_key=KEY, max_retries=0) as client:
        assert valid(client.models.list()) == 2
        assert valid(client.files.list()) == 5
        assert valid(client.fine_tuning.jobs.list()) == 2
        assert valid(client.fine_tuning.jobs.list_events("ftjob-Ab1")) == 36
        assert valid(client.fine_tuning.jobs.checkpoints.list("ftjob-Ab1")) == 2
        assert (
            valid([client.files.retrieve("file-trainAb1"), client.fine_tuning.jobs.retrieve("ftjob-Ab1")])
            == 2
        )
        assert client.files.content("file-trainAb1").read() == source.contents["file-trainAb1"]
        answer = client.chat.completions.create(
            model=model, messages=[{"role": "user", "content": "hello"}], logprobs=True, top_logprobs=1
        )
        assert valid([answer]) == 1
        source.stored = [{**answer.model_dump(), "messages": [{"role": "user", "content": "hello"}]}]
        assert valid(client.chat.completions.list()) == 1
        # Of users and systems, too, as OpenAI's reference shows; its client's type knows assistants alone.
        assert [m.content for m in client.chat.completions.messages.list(answer.id)] == ["hello"]
        source.delete_file("file-trainAb1")
        with pytest.raises(openai.NotFoundError):
            client.files.content("file-trainAb1")
        source.trouble.fail = {"models": [429, 503]}
        with pytest.raises(openai.RateLimitError) as limited:
            client.models.list()
        assert limited.value.response.headers["retry-after-ms"] == "20"
        with pytest.raises(openai.InternalServerError):
            client.models.list()
        source.trouble.expired = True
        with pytest.raises(openai.AuthenticationError):
            client.models.list()
    assert source.writes == set()
