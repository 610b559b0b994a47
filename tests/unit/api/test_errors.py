"""Errors on the wire."""

from __future__ import annotations

import errno
import inspect
from inspect import signature

import pytest
from starlette.exceptions import HTTPException

from tunery.api.errors import problem_of
from tunery.core import errors as core_errors
from tunery.core.errors import (
    ConfigError,
    ConflictError,
    DamagedError,
    DamagedRowError,
    GateFailed,
    LimitError,
    QuotaError,
    ResourceError,
    TuneryError,
)

KINDS = {
    403: "permission_error",
    429: "rate_limit_error",
    500: "server_error",
    502: "server_error",
    503: "server_error",
    504: "server_error",
}


def every_error() -> list[type[TuneryError]]:
    classes = inspect.getmembers(core_errors, inspect.isclass)
    # One that words its message by itself says nothing else over HTTP than the kind of error that it is.
    # What is damaged is told to the operator alone.
    found = [
        c
        for _, c in classes
        if issubclass(c, TuneryError)
        and "hint" in signature(c).parameters
        and c not in (DamagedError, DamagedRowError)
    ]
    assert len(found) >= 6
    return found


@pytest.mark.parametrize("kind", every_error())
def test_each_error_keeps_its_status_code_and_message(kind: type[TuneryError]) -> None:
    problem = problem_of(kind("row 3 is bad", hint="fix row 3", param="file"), "req_1")
    assert problem.status == kind.http_status
    assert problem.body() == {
        "error": {
            "message": "row 3 is bad\ntry: fix row 3",
            "type": kind.code if kind is QuotaError else KINDS.get(kind.http_status, "invalid_request_error"),
            "param": "file",
            "code": kind.code,
        }
    }


@pytest.mark.parametrize("kind", [ConflictError, GateFailed])
def test_final_conflicts_tell_the_client_not_to_retry(kind: type[TuneryError]) -> None:
    assert problem_of(kind("no"), "req_1").headers["x-should-retry"] == "false"


@pytest.mark.parametrize(
    "error",
    [
        ResourceError("busy"),
        LimitError("busy"),
        MemoryError(),
        RuntimeError("DefaultCPUAllocator: can't allocate memory"),
        OSError(errno.ENOSPC, "No space left on device"),
        OSError(errno.EMFILE, "Too many open files"),
        HTTPException(503),
        HTTPException(429),
    ],
)
def test_a_shortage_may_be_retried_and_says_when(error: Exception) -> None:
    problem = problem_of(error, "req_1")
    assert problem.status in (429, 503)
    assert "x-should-retry" not in problem.headers
    assert int(problem.response().headers["retry-after"]) >= 1


def test_all_problems_stand_in_the_message() -> None:
    message = problem_of(ConfigError.of_problems("rows.jsonl", ["row 1: x", "row 9: y"]), "req_1").message
    assert "row 1: x" in message
    assert "row 9: y" in message


def test_an_unknown_exception_tells_only_where_to_look() -> None:
    problem = problem_of(RuntimeError("password=hunter2"), "req_42")
    assert problem.status == 500
    assert "hunter2" not in problem.message
    assert "req_42" in problem.message


def test_clients_are_not_told_where_the_server_keeps_its_files(caplog: pytest.LogCaptureFixture) -> None:
    for error in (
        DamagedError("/home/x/adapters/a is not what it was"),
        DamagedRowError("/home/x/t.db, row 3"),
    ):
        problem = problem_of(error, "req_1")
        assert (problem.status, problem.code) == (error.http_status, error.code)
        assert "/home" not in problem.message
        assert "req_1" in problem.message
        assert error.message in caplog.text
