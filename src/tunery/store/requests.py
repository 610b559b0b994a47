"""Served calls, and what they add up to for each arm of a rollout."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any, NamedTuple, get_args

from tunery.core.errors import ConflictError
from tunery.core.rollout import Arm, RequestRecord
from tunery.store.database import Database, Row, Transaction, Value
from tunery.store.records import Page, Query, Records, TableLayout, document, from_row, read_row, utc_text

_LAYOUT = TableLayout(
    "requests",
    RequestRecord,
    "request",
    ("model", "rollout_id", "arm", "status", "format_valid", "latency_ms", "deleted_at", "project"),
    hint="tunery requests ls",
    private=True,
    condition="deleted_at IS NULL",
    owned="project = :project",
    joined="LEFT JOIN request_texts ON request_id = id",
    joined_columns=("prompt", "answer"),
)
_KEEP_TEXT = """
INSERT INTO request_texts (request_id, asked_at, prompt, answer)
VALUES (:id, :asked_at, :prompt, :answer) ON CONFLICT (request_id) DO NOTHING
"""
_DROP_TEXT = "DELETE FROM request_texts WHERE request_id = :id"
_EXPIRE = """
DELETE FROM request_texts WHERE request_id IN
  (SELECT request_id FROM request_texts WHERE asked_at < :before LIMIT 500)
"""
"""Some at a time, so that nobody who writes waits long for the others."""
_DROP_SAID = "DELETE FROM feedback WHERE kind <> 'rating' AND request_id IN {meant}"
_COMMENTED = """
SELECT id, document FROM feedback
WHERE kind = 'rating' AND CAST(document AS TEXT) LIKE :commented AND request_id IN {meant}
"""
"""Documents are read here and not changed in SQL: PostgreSQL cannot take a JSON apart that has U+0000."""
_METADATA = {
    "postgresql": "document -> 'metadata' ->> :key{n} = :value{n}",
    # SQLite would read a key with quotes or dots in it as a path.
    "sqlite": "EXISTS (SELECT 1 FROM json_each(document, '$.metadata') "
    "WHERE json_each.key = :key{n} AND json_each.value = :value{n})",
}

_COUNTS = """
SELECT COUNT(*) AS requests,
       COUNT(*) FILTER (WHERE status = 'error') AS errors,
       COUNT(*) FILTER (WHERE status = 'ok') AS answered,
       COUNT(format_valid) AS format_checked,
       COUNT(*) FILTER (WHERE format_valid IS TRUE) AS format_valid
FROM requests
WHERE rollout_id = :rollout_id AND arm = :arm AND status IN ('ok', 'error')
"""

_RATINGS = """
SELECT COUNT(*) AS rated, COUNT(*) FILTER (WHERE feedback.rating > 0) AS liked
FROM (SELECT MAX(seq) AS seq FROM feedback WHERE rating IS NOT NULL GROUP BY request_id) AS newest
CROSS JOIN feedback CROSS JOIN requests
WHERE feedback.seq = newest.seq AND requests.id = feedback.request_id
  AND requests.rollout_id = :rollout_id AND requests.arm = :arm
"""
"""CROSS, because SQLite then begins with the feedback, of which there is far less than of requests."""

_LATENCY = """
SELECT latency_ms FROM requests
WHERE rollout_id = :rollout_id AND arm = :arm AND status = 'ok'
ORDER BY latency_ms LIMIT 1 OFFSET :skipped
"""


class Tally(NamedTuple):
    """What one arm's requests add up to; calls that the client broke off are left out."""

    requests: int
    """Answered or failed [count]."""
    errors: int
    """Failed [count]."""
    format_checked: int
    """Answers of which a form was expected [count]."""
    format_valid: int
    """Of those, answers that had it [count]."""
    rated: int
    """Requests that somebody rated; the newest rating of each counts [count]."""
    liked: int
    """Of those, rated up [count]."""
    latency_ms_p50: float | None
    """Of answered requests, by nearest rank [ms]; None before the first."""
    latency_ms_p95: float | None
    """As ``latency_ms_p50``."""


class Chosen(NamedTuple):
    """Which served calls are meant; all that fulfil every condition that is given."""

    ids: tuple[str, ...] = ()
    before: datetime | None = None
    model: str | None = None
    """``name@N``, or a name for all its versions."""
    project: str | None = None

    def takes(self, record: RequestRecord) -> bool:
        """Say whether a call is meant."""
        return (
            (not self.ids or record.id in self.ids)
            and (self.before is None or record.created_at < self.before)
            and (self.model is None or self.model in (record.model, record.model.partition("@")[0]))
            and (self.project is None or self.project == record.project)
        )


class Purged(NamedTuple):
    """What a purge took out of the database."""

    requests: int
    """Records [count]."""
    texts: int
    """Requests whose prompt and answer were there [count]."""
    feedback: int
    """Pieces of feedback; of texts alone those that were words, ratings stay [count]."""


class ServedRequests(Records[RequestRecord]):
    """The log of served calls; those that their client deleted are counted but neither found nor listed."""

    def __init__(self, database: Database, project: str | None = None) -> None:
        super().__init__(database, _LAYOUT, project)
        self._without_prompts = self._selecting(("answer",))

    def insert(self, transaction: Transaction, record: RequestRecord) -> RequestRecord:
        """Store a call and its texts as part of a transaction; of two with one id the first is kept."""
        return record if self.put(transaction, record) else self.read(transaction, record.id)

    def put(self, transaction: Transaction, record: RequestRecord) -> bool:
        """Store a call; False where its id is there already, be it deleted."""
        if not transaction.run(self._insert, self._row(self.own(record))):
            return False
        if record.messages:
            texts = {
                "prompt": document([m.model_dump(mode="json") for m in record.messages]),
                "answer": document(record.completion),
            }
            transaction.run(_KEEP_TEXT, {"id": record.id, "asked_at": utc_text(record.created_at), **texts})
        return True

    def heads(
        self,
        *,
        model: str | None = None,
        metadata: Mapping[str, str] | None = None,
        after: str | None = None,
        limit: int = 100,
        oldest_first: bool = False,
    ) -> Page[RequestRecord]:
        """Return a part of the list without reading prompts: every ``messages`` is empty.

        Args:
            metadata: Pairs that a call's metadata must have.

        Raises:
            NotFoundError: There is no call with the id ``after``.
        """
        condition = _METADATA[self.database.driver.dialect]
        conditions, params = list[str](), dict[str, Value]()
        if model is not None:
            conditions, params = ["model = :model"], {"model": model}
        for n, (key, value) in enumerate((metadata or {}).items()):
            conditions.append(condition.format(n=_letters(n)))
            params |= {f"key{_letters(n)}": key, f"value{_letters(n)}": value}
        return self._page(Query(self._without_prompts, conditions, params, oldest_first), after, limit)

    def forget(self, id: str, at: datetime) -> None:
        """Delete a call for its client: its texts, metadata and user go, and what was said of it in words.

        The row stays for what it adds up to: a client must not be able to take a failed answer out of a
        canary's numbers.

        Raises:
            NotFoundError: There is none of that id, or it was deleted before.
        """
        with self.database.transaction(lock=self.lock(id)) as transaction:
            record = self.read(transaction, id)
            transaction.run(_DROP_TEXT, {"id": id})
            _forget_said(transaction, "(:id)", {"id": id})
            emptied: dict[str, Any] = {
                "messages": (),
                "completion": "",
                "metadata": {},
                "subject": "",
                "response": None,
                "text": "removed",
            }
            transaction.run(self._update, self._params(self._row(record.with_(**emptied, deleted_at=at))))
        self.database.overwrite_deleted()

    def set_metadata(self, id: str, metadata: Mapping[str, str]) -> RequestRecord:
        """Replace a call's metadata.

        Raises:
            NotFoundError: There is none of that id, or it was deleted.
        """
        return self.update(id, metadata=dict(metadata))

    def expire_texts(self, before: datetime) -> int:
        """Delete the texts of calls that came before a time, and return of how many [count].

        What was said of these calls in words goes, too, whenever it came; ratings stay for their counts.
        Those of every project expire, so that one project's own view cannot do it.
        """
        if self.project is not None:
            raise ValueError("texts of all projects expire at once")
        meant, params = _meant(Chosen(before=before))
        with self.database.transaction() as transaction:
            _forget_said(transaction, meant, params)
        expired = 0
        while True:
            with self.database.transaction() as transaction:
                gone = transaction.run(_EXPIRE, {"before": utc_text(before)})
            expired += gone
            if not gone:
                self.database.overwrite_deleted()
                return expired

    def purge(self, chosen: Chosen, *, texts_only: bool) -> Purged:
        """Delete served calls with their texts and feedback, or their texts and what was said in words."""
        chosen = self.narrowed(chosen)
        where, params = _where(chosen)
        meant, _ = _meant(chosen)
        purged = self._purge(where, meant, params, texts_only=texts_only)
        self.database.overwrite_deleted()
        return purged

    def _purge(self, where: str, meant: str, params: Mapping[str, Value], *, texts_only: bool) -> Purged:
        with self.database.transaction() as transaction:
            texts = transaction.run(f"DELETE FROM request_texts WHERE request_id IN {meant}", params)  # noqa: S608
            if texts_only:
                return Purged(0, texts, _forget_said(transaction, meant, params))
            feedback = transaction.run(f"DELETE FROM feedback WHERE request_id IN {meant}", params)  # noqa: S608
            return Purged(
                transaction.run(f"DELETE FROM requests WHERE {where}", params),  # noqa: S608
                texts,
                feedback,
            )

    def refuse_counted(self, chosen: Chosen, *, texts_only: bool) -> None:
        """Refuse to delete calls altogether that a running rollout is judged by.

        Raises:
            ConflictError: There are such calls among them; names the rollout.
        """
        if texts_only:
            return
        where, params = _where(self.narrowed(chosen))
        running = "rollout_id IN (SELECT id FROM rollouts WHERE status = 'running')"
        sql = f"SELECT DISTINCT rollout_id FROM requests WHERE {where} AND {running}"  # noqa: S608
        for row in self.database.rows(sql, params):
            raise ConflictError(
                f"{row['rollout_id']} is running and is judged by calls that this would delete",
                hint="add --texts-only, or end it first: tunery deploy cancel NAME",
            )

    def chosen_ids(self, chosen: Chosen) -> Iterator[str]:
        """Yield the ids of the calls that are meant, oldest first; deleted ones too."""
        where, params = _where(self.narrowed(chosen))
        seq = 0
        while rows := self.database.rows(
            f"SELECT seq, id FROM requests WHERE {where} AND seq > :seq ORDER BY seq LIMIT 5000",  # noqa: S608
            {**params, "seq": seq},
        ):
            yield from (str(row["id"]) for row in rows)
            seq = int(rows[-1]["seq"])

    def narrowed(self, chosen: Chosen) -> Chosen:
        """Return which calls are meant of those that there are here."""
        return chosen if self.project is None else chosen._replace(project=self.project)

    def tallies(self, rollout_id: str) -> dict[Arm, Tally]:
        """Return what each arm of a rollout adds up to, both at the same moment."""
        with self.database.snapshot() as transaction:
            return {arm: _tally(transaction, rollout_id, arm) for arm in get_args(Arm)}

    def _row(self, record: RequestRecord) -> dict[str, Value]:
        return super()._row(record.model_copy(update={"messages": (), "completion": ""}))

    def _record(self, row: Row) -> RequestRecord:
        return read_row(self.database, _LAYOUT.table, row, _request_of)


def _request_of(row: Row) -> RequestRecord:
    prompt, answer = row.get("prompt"), row.get("answer")
    if answer is not None:
        texts = {"messages": json.loads(prompt or "[]"), "completion": json.loads(answer)}
        return from_row(RequestRecord, {**row, **texts})
    record = from_row(RequestRecord, row)
    return record.model_copy(update={"text": "removed"}) if record.text == "kept" else record


def _where(chosen: Chosen) -> tuple[str, dict[str, Value]]:
    conditions, params = ["1 = 1"], dict[str, Value]()
    if chosen.ids:
        names = {f"id_{_letters(n)}": id for n, id in enumerate(chosen.ids)}
        conditions.append(f"id IN ({', '.join(f':{name}' for name in names)})")
        params |= names
    if chosen.before is not None:
        conditions.append("created_at < :before")
        params["before"] = utc_text(chosen.before)
    if chosen.model is not None:
        conditions.append("(model = :model OR substr(model, 1, length(:name)) = :name)")
        params |= {"model": chosen.model, "name": f"{chosen.model}@"}
    if chosen.project is not None:
        conditions.append("project = :project")
        params["project"] = chosen.project
    return " AND ".join(conditions), params


def _meant(chosen: Chosen) -> tuple[str, dict[str, Value]]:
    """Return the ids of calls that are meant, as part of a statement, and its parameters."""
    where, params = _where(chosen)
    return f"(SELECT id FROM requests WHERE {where})", params  # noqa: S608 - conditions from above


def _forget_said(transaction: Transaction, meant: str, params: Mapping[str, Value]) -> int:
    """Delete what was said of calls in words, and return how many pieces of feedback are gone [count]."""
    gone = transaction.run(_DROP_SAID.format(meant=meant), params)
    for row in transaction.rows(_COMMENTED.format(meant=meant), {**params, "commented": '%"comment":"%'}):
        said = json.loads(row["document"]) if isinstance(row["document"], str) else dict(row["document"])
        emptied = document({**said, "comment": None})
        wordless = {"id": row["id"], "document": emptied}
        transaction.run("UPDATE feedback SET document = :document WHERE id = :id", wordless)
    return gone


def _letters(number: int) -> str:
    """Return a number in letters: digits do not belong in a parameter's name."""
    return str(number).translate(str.maketrans("0123456789", "abcdefghij"))


def _tally(transaction: Transaction, rollout_id: str, arm: Arm) -> Tally:
    of_arm = {"rollout_id": rollout_id, "arm": arm}
    counts: Row = transaction.rows(_COUNTS, of_arm)[0]
    ratings: Row = transaction.rows(_RATINGS, of_arm)[0]
    answered = counts.pop("answered")

    def latency(share: float) -> float | None:
        if not answered:
            return None
        skipped = math.ceil(share * answered) - 1
        return float(transaction.rows(_LATENCY, {**of_arm, "skipped": skipped})[0]["latency_ms"])

    return Tally(**counts, **ratings, latency_ms_p50=latency(0.50), latency_ms_p95=latency(0.95))
