"""The request log: nothing lost, personal data out, one bad record no end of it."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Literal

import pytest

from tunery.core.access import DEFAULT_PROJECT
from tunery.core.errors import ResourceError
from tunery.core.example import Message
from tunery.core.rollout import Feedback, RequestRecord
from tunery.feedback.collect import GivenFeedback, feedback_on
from tunery.pipeline.gateway.catch_up import entry_of, move_abandoned
from tunery.pipeline.gateway.log import LogSettings, RequestLog
from tunery.pipeline.gateway.purge import purge
from tunery.store.journal import Journal
from tunery.store.requests import Chosen
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
            time.sleep(0.001)

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


def test_a_record_whose_texts_cannot_be_masked_counts_without_them(
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
    kept = workspace.requests.get("chatcmpl-1")
    assert (kept.text, kept.messages, kept.completion) == ("not_masked", (), "")
    assert workspace.requests.get("chatcmpl-2").text == "kept"
    assert "chatcmpl-1" in caplog.text


@contextmanager
def database_away(workspace: Workspace) -> Iterator[None]:
    """Put the database out of reach: new connections find a link to nowhere, old ones are closed.

    Each step in one rename: a thread that tries meanwhile would make an empty database in a gap.
    """
    path, kept, link = (workspace.root / name for name in ("tunery.db", "kept.db", "link"))
    kept.hardlink_to(path)
    link.symlink_to(workspace.root / "nowhere" / "tunery.db")
    link.replace(path)
    workspace.database.close()
    yield
    kept.replace(path)


def until(done: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def ids(workspace: Workspace) -> list[str]:
    return sorted(r.id for r in workspace.requests.list(limit=10_000))


def test_what_comes_while_the_database_is_away_is_there_once_after_it(workspace: Workspace) -> None:
    log = RequestLog(workspace, list)
    log.write(a_record(workspace, 0))
    log.flush()
    with database_away(workspace):
        for number in range(1, 400):
            log.write(a_record(workspace, number))
        log.flush()
        assert log.state.in_journal > 0
        assert log.state.problem is None
        log.check()  # calls go on
        found = log.find("chatcmpl-200")
        assert found is not None
        assert found.completion == "hello"
        with pytest.raises(ResourceError):
            log.forget(
                "chatcmpl-200", DEFAULT_PROJECT
            )  # not before the database can count it without its texts
    until(lambda: log.state.in_journal == 0)
    assert ids(workspace) == sorted(f"chatcmpl-{n}" for n in range(400))
    assert log.state.lost == log.state.damaged == log.state.set_aside == 0
    log.close()
    assert not [p for p in workspace.journals.iterdir() if p.is_dir()]


def test_feedback_on_a_call_in_the_journal_arrives_behind_it(workspace: Workspace) -> None:
    log = RequestLog(workspace, list)
    with database_away(workspace):
        log.write(a_record(workspace, 1))
        log.flush()
        request = log.find("chatcmpl-1")
        assert request is not None
        given = GivenFeedback(kind="rating", rating=1)
        feedback = feedback_on(request, given, author="test", at=workspace.clock.now())
        log.write_feedback(feedback)
    until(lambda: log.state.in_journal == 0)
    assert workspace.feedback.list() == [feedback]
    log.close()


def test_another_server_of_the_home_takes_feedback_on_what_the_first_has_journalled(
    workspace: Workspace,
) -> None:
    first, second = RequestLog(workspace, list), RequestLog(workspace, list)
    with database_away(workspace):
        first.write(a_record(workspace, 1))
        first.flush()
        assert second.find("chatcmpl-1") is None
        request = second.find_anywhere("chatcmpl-1")
        assert request is not None
        given = GivenFeedback(kind="rating", rating=1)
        second.write_feedback(feedback_on(request, given, author="test", at=workspace.clock.now()))
    until(lambda: len(workspace.feedback.list()) == 1)
    first.close()
    second.close()
    assert ids(workspace) == ["chatcmpl-1"]
    assert len(workspace.feedback.list()) == 1


def test_an_end_without_a_database_leaves_the_journal_to_the_next_server(workspace: Workspace) -> None:
    first = RequestLog(workspace, list)
    with database_away(workspace):
        for number in range(5):
            first.write(a_record(workspace, number))
        first.close()
    first.write(a_record(workspace, 5))  # a call that ends after the log has
    assert ids(workspace) == []
    RequestLog(workspace, list).close()
    assert ids(workspace) == [f"chatcmpl-{n}" for n in range(6)]
    assert not [p for p in workspace.journals.iterdir() if p.is_dir()]


def test_feedback_that_comes_before_its_request_waits_for_it(workspace: Workspace) -> None:
    log = RequestLog(workspace, list)
    request = a_record(workspace, 1)
    given = GivenFeedback(kind="rating", rating=-1)
    log.write_feedback(feedback_on(request, given, author="test", at=workspace.clock.now()))
    log.flush()
    assert workspace.feedback.list() == []
    log.write(request)
    until(lambda: len(workspace.feedback.list()) == 1)
    log.close()


def test_a_record_that_the_database_does_not_take_is_set_aside_and_the_others_arrive(
    workspace: Workspace, caplog: pytest.LogCaptureFixture
) -> None:
    log = RequestLog(workspace, list)
    with workspace.database.transaction() as transaction:
        transaction.run(
            "CREATE TRIGGER no BEFORE INSERT ON requests WHEN NEW.id = 'chatcmpl-2' "
            "BEGIN SELECT RAISE(ABORT, 'no'); END"
        )
    with caplog.at_level(logging.ERROR):
        for number in range(5):
            log.write(a_record(workspace, number))
        log.close()
    assert ids(workspace) == [f"chatcmpl-{n}" for n in (0, 1, 3, 4)]
    assert log.state.set_aside == 1
    kept = workspace.journals / "set-aside.log"
    assert '"chatcmpl-2"' in kept.read_text()
    purge(workspace, Chosen(ids=("chatcmpl-2",)), texts_only=False)
    assert kept.read_text().strip() == ""


@pytest.mark.parametrize("how", ["refuse", "answer"])
def test_without_journal_and_database_the_operator_decides(
    workspace: Workspace, how: Literal["refuse", "answer"]
) -> None:
    workspace.journals.write_text("a file where the folder should be")
    log = RequestLog(workspace, list, settings=LogSettings(when_unwritable=how), capacity=3)
    with database_away(workspace):
        until(lambda: log.state.problem is not None)
        if how == "refuse":
            with pytest.raises(ResourceError, match="request records cannot be written"):
                log.check()
        else:
            log.check()
        log.write(a_record(workspace, 0))
        until(lambda: not log._intake)  # it is being tried
        for number in range(1, 6):
            log.write(a_record(workspace, number))
        assert log.state.in_memory == (6 if how == "refuse" else 4)
        assert log.state.lost == (0 if how == "refuse" else 2)
        assert log.find("chatcmpl-1") is not None
        workspace.journals.unlink()
        until(lambda: log.state.in_memory == 0)
        log.check()
    log.close()
    assert ids(workspace) == [f"chatcmpl-{n}" for n in range(6 if how == "refuse" else 4)]


def test_with_sync_a_call_waits_for_the_disk_and_is_told_when_it_fails(workspace: Workspace) -> None:
    log = RequestLog(workspace, list, settings=LogSettings(sync=True))
    written = log.write(a_record(workspace, 1))
    assert written is not None
    written.result(timeout=10)
    log.close()
    workspace.journals.joinpath(".lock").unlink(missing_ok=True)
    for left in workspace.journals.iterdir():
        left.unlink()
    workspace.journals.rmdir()
    workspace.journals.write_text("")
    log = RequestLog(workspace, list, settings=LogSettings(sync=True))
    with database_away(workspace):
        refused = log.write(a_record(workspace, 2))
        assert refused is not None
        with pytest.raises(ResourceError, match="cannot be written"):
            refused.result(timeout=10)
    log.close()
    assert ids(workspace) == ["chatcmpl-1", "chatcmpl-2"]


def test_texts_over_the_limit_are_not_kept_and_old_ones_expire(workspace: Workspace) -> None:
    old = a_record(workspace, 1).with_(created_at=workspace.clock.now() - timedelta(days=3))
    workspace.requests.add(old)
    settings = LogSettings(max_text_bytes=100, keep_texts_days=2)
    log = RequestLog(workspace, list, settings=settings)
    log.write(a_record(workspace, 2, "x" * 51))
    log.write(a_record(workspace, 3, "x" * 50))
    until(lambda: workspace.requests.get("chatcmpl-1").text == "removed")
    log.close()
    assert [workspace.requests.get(f"chatcmpl-{n}").text for n in (2, 3)] == ["too_long", "kept"]
    assert workspace.requests.get("chatcmpl-2").messages == ()


def test_expired_texts_go_from_the_journal_too(workspace: Workspace) -> None:
    log = RequestLog(workspace, list)
    log.write(a_record(workspace, 1, "a secret"))
    log.flush()
    segments = list(workspace.journals.rglob("*.log"))
    assert any(b"a secret" in p.read_bytes() for p in segments)
    log._expire(-1.0)
    assert not any(b"a secret" in p.read_bytes() for p in segments)
    assert workspace.requests.get("chatcmpl-1").text == "removed"
    log.close()
    log = RequestLog(workspace, list)  # what the journal held is not written again
    log.close()
    assert workspace.requests.get("chatcmpl-1").text == "removed"


def test_a_record_that_cannot_be_written_down_is_counted_as_lost_and_ends_nothing(
    workspace: Workspace, caplog: pytest.LogCaptureFixture
) -> None:
    log = RequestLog(workspace, list)
    with caplog.at_level(logging.ERROR):
        log.write(a_record(workspace, 1).model_copy(update={"ttft_ms": object()}))
        log.write(a_record(workspace, 2))
        log.flush()
    assert ids(workspace) == ["chatcmpl-2"]
    assert log.state.lost == 1
    assert log.state.in_memory == 0
    assert "chatcmpl-1 cannot be recorded" in caplog.text
    log.close()


@pytest.mark.parametrize("text", ["nul \0", "half \ud800", "\udfff\0\ud83d"])
def test_any_text_can_be_recorded(workspace: Workspace, text: str) -> None:
    log = RequestLog(workspace, list)
    metadata = {"key" + text: text}
    log.write(
        a_record(workspace, 1, text).model_copy(
            update={"metadata": metadata, "endpoint": text, "subject": text}
        )
    )
    log.close()
    stored = workspace.requests.get("chatcmpl-1")
    assert stored.text == "kept"
    assert stored.model_dump_json().encode()  # and read back and sent
    assert "\ufffd" in stored.completion


def test_a_purge_of_texts_takes_words_that_wait_in_a_journal_and_leaves_ratings(workspace: Workspace) -> None:
    call = a_record(workspace, 1)
    said = {"request_id": call.id, "author": "ann", "comment": "secret words", "created_at": call.created_at}
    rating = Feedback.model_validate({"id": "fb-1", "kind": "rating", "rating": 1, **said})
    words = Feedback.model_validate({"id": "fb-2", "kind": "correction", "correction": "secret", **said})
    entries = [entry_of(record) for record in (call, rating, words)]
    ended = Journal.create(workspace.journals, "journal-1", about=workspace.database_label)
    ended.append(entries, sync=False)
    ended.close()
    purge(workspace, Chosen(ids=(call.id,)), texts_only=True)
    files = [path for path in workspace.journals.rglob("*") if path.is_file()]
    assert files
    assert not [path for path in files if b"secret" in path.read_bytes()]
    move_abandoned(workspace)
    assert [(f.id, f.rating) for f in workspace.feedback.list()] == [("fb-1", 1)]
