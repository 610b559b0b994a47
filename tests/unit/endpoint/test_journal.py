"""Answers that were paid for: without what is large in memory, whole from the disk, whatever died between."""

from __future__ import annotations

from pathlib import Path

import pytest

from tunery.endpoint.budget import Amount
from tunery.endpoint.journal import Journal, PaidAnswer

LOGPROBS = [{"token": "hé", "logprob": -0.1, "top_logprobs": []}]


def answer(text: str, logprobs: list[dict[str, object]] | None) -> PaidAnswer:
    return PaidAnswer(
        text, "stop", "r", "host", "2026-11-27T00:00:00+00:00", 3, 2, True, 0.1, logprobs=logprobs
    )


@pytest.mark.parametrize("torn", [b"", b'{"sent": "c", "tok'])
def test_log_probabilities_are_read_from_the_disk(tmp_path: Path, torn: bytes) -> None:
    path = tmp_path / "journal.jsonl"
    expected = {
        "a": answer("ünïcode", LOGPROBS),
        "b": answer("plain", None),
        "c": answer("late", LOGPROBS * 3),
    }

    def held(journal: Journal, names: str) -> None:
        for key in names:
            found = journal.find(key)
            assert found is not None
            assert found == expected[key]._replace(logprobs=None)
            assert journal.whole(key) == expected[key]
        assert journal.whole("none") is None

    def bought(journal: Journal, key: str) -> None:
        journal.sent(key, Amount(10, 1.0))
        journal.done(key, expected[key])

    with Journal(path, "identity") as journal:
        bought(journal, "a")
        bought(journal, "b")
        held(journal, "ab")
    path.write_bytes(path.read_bytes() + torn)
    with Journal(path, "identity") as journal:
        held(journal, "ab")
        bought(journal, "c")
        held(journal, "abc")
    with Journal(path, "identity") as journal:
        held(journal, "abc")
        assert (journal.answers, journal.spent.tokens) == (3, 15)
