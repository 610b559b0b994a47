"""The request log: nothing lost, personal data out, one bad record no end of it."""

from __future__ import annotations

import logging
import threading

import pytest

from tunery.core.example import Message
from tunery.core.rollout import RequestRecord
from tunery.pipeline.gateway.log import RequestLog
from tunery.store.workspace import Workspace
from tunery.text.pii import mask


def a_record(workspace: Workspace, number: int, text: str = "hello") -> RequestRecord:
    return RequestRecord(
        id=f"chatcmpl-{number}",
        created_at=workspace.clock.now(),
        endpoint="bot",
        model="bot@1",
        subject="0" * 32,
        messages=(Message(role="user", content=text),),
        completion=text,
        status="ok",
    )


def test_every_record_of_many_threads_is_there_after_a_flush(workspace: Workspace) -> None:
    seen: list[str] = []
    log = RequestLog(workspace, list, observe=lambda r: seen.append(r.id), capacity=8)

    def write(first: int) -> None:
        for number in range(first, first + 25):
            log.write(a_record(workspace, number))

    threads = [threading.Thread(target=write, args=(first,)) for first in (0, 100, 200, 300)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    log.flush()
    assert len(workspace.requests.list(limit=1000)) == len(seen) == 100
    log.close()


def test_a_flush_returns_under_steady_traffic(workspace: Workspace) -> None:
    log = RequestLog(workspace, list, capacity=50)
    stop = threading.Event()

    def write() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            log.write(a_record(workspace, number))

    writer = threading.Thread(target=write)
    writer.start()
    flusher = threading.Thread(target=log.flush)
    flusher.start()
    flusher.join(timeout=20)
    assert not flusher.is_alive()
    stop.set()
    writer.join()
    log.close()
    log.flush()


def test_personal_data_and_nul_are_gone_from_prompt_and_answer(workspace: Workspace) -> None:
    log = RequestLog(workspace, lambda texts: mask(texts).texts)
    log.write(a_record(workspace, 1, "write to jane@example.org \x00 now"))
    log.close()
    stored = workspace.requests.get("chatcmpl-1")
    assert stored.completion == stored.messages[0].content == "write to <EMAIL_ADDRESS> \ufffd now"


def test_a_record_that_cannot_be_written_is_logged_and_the_next_one_is_written(
    workspace: Workspace, caplog: pytest.LogCaptureFixture
) -> None:
    def picky(texts: object) -> list[str]:
        assert isinstance(texts, list)
        if "bad" in texts:
            raise ValueError("no")
        return texts

    log = RequestLog(workspace, picky)
    with caplog.at_level(logging.ERROR):
        log.write(a_record(workspace, 1, "bad"))
        log.write(a_record(workspace, 2))
        log.close()
    assert workspace.requests.find("chatcmpl-1") is None
    assert workspace.requests.find("chatcmpl-2") is not None
    assert "chatcmpl-1" in caplog.text
