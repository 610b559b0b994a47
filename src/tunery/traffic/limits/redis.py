"""Counts in Redis, which any number of gateways share: one script, one round trip a call."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.resources import files
from typing import Any

from tunery.core.errors import ConfigError, UnavailableError
from tunery.core.prices import Used
from tunery.traffic.limits.account import Account, Claim, Periods, obstacles
from tunery.traffic.limits.ledger import Decision, Reservation, Seed

try:
    from redis import Redis
    from redis.backoff import NoBackoff
    from redis.exceptions import RedisError
    from redis.retry import Retry
except ImportError:
    raise ConfigError(
        "TUNERY_REDIS_URL is set, but Redis' client is not installed", hint="pip install 'tunery[redis]'"
    ) from None

_ANSWER_S = 0.5
"""How long a call waits for Redis, twice at most, before limits are counted without it [s]."""
_KEEP_S = 1.0
"""Pause between two looks for reservations that lapsed [s]."""


class RedisLedger:
    """Accounts in Redis; its clock is everybody's.

    Args:
        url: As ``redis://user:password@host:6379/0``.
        seed: See :data:`~tunery.traffic.limits.ledger.Seed`.
        prefix: Of all its names; gateways that count together say the same.
        now: Clock in place of Redis' own.
    """

    shared = True

    def __init__(
        self,
        url: str,
        *,
        seed: Seed | None = None,
        prefix: str = "tunery",
        now: Callable[[], float] | None = None,
    ) -> None:
        try:
            # One more try at once: a server that was started again has hung up on every connection.
            self._redis: Redis = Redis.from_url(
                url,
                socket_timeout=_ANSWER_S,
                socket_connect_timeout=_ANSWER_S,
                retry=Retry(NoBackoff(), 1),
                decode_responses=True,
            )
        except ValueError:
            # It may hold a password and is not repeated.
            raise ConfigError(
                "TUNERY_REDIS_URL is not understood", hint="redis://user:password@host:6379/0"
            ) from None
        where = self._redis.connection_pool.connection_kwargs
        self.label = f"redis://{where.get('host', where.get('path', 'localhost'))}:{where.get('port', 6379)}"
        script = files(__package__).joinpath("ledger.lua").read_text(encoding="utf-8")
        self._script = self._redis.register_script(script)
        self._prefix = f"{prefix}:{{limits}}"
        self._seed = seed
        self._now = now
        self._keep_at = self._renew_at = 0.0

    def reserve(self, reservation: Reservation) -> Decision:
        """Reserve in every account of a call, or in none."""
        claims, need = _claims(reservation.claims), reservation.need._asdict()
        given = {
            "id": reservation.id,
            "claims": claims,
            "need": need,
            "lease_s": reservation.lease_s,
            "claims_text": json.dumps(claims),
            "need_text": json.dumps(need),
        }
        answer = self._run("reserve", given)
        if answer[0] == -1:
            answer = self._run("reserve", {**given, "seeds": [*self._seeds(reservation.claims)]})
        accounts = [Account.read(text) for text in answer[1:]]
        by_name = dict(zip((claim.account for claim in reservation.claims), accounts, strict=True))
        if answer[0] == 1:
            return Decision(by_name, ())
        return Decision(by_name, obstacles(zip(accounts, reservation.claims, strict=True), reservation.need))

    def waits(self, claims: Sequence[Claim]) -> bool:
        """Return whether there is anything to count."""
        return bool(claims)

    def settle(self, ended: Sequence[tuple[Reservation, Used]]) -> None:
        """Book what calls used, each once however often it is ended, and give back the rest."""
        if ended:
            listed = [
                {"id": r.id, "claims": _claims(r.claims), "used": {"tokens": u.tokens, "usd": u.usd}}
                for r, u in ended
            ]
            self._run("settle", {"ended": listed})

    def upkeep(self, held: Sequence[Reservation]) -> None:
        """Keep reservations for another lease, and give back those that lapsed."""
        moment = time.monotonic()
        if moment < self._keep_at:
            return
        lease_s = min((r.lease_s for r in held), default=0.0)
        renew = moment >= self._renew_at
        self._run("keep", {"ids": [r.id for r in held] if renew else [], "lease_s": lease_s})
        self._keep_at = moment + _KEEP_S
        if renew:
            self._renew_at = moment + lease_s / 3

    def look(self, claims: Sequence[Claim]) -> Mapping[str, Account]:
        """Return how accounts stand now; those that nobody counted in are left out."""
        if not claims:
            return {}
        answer = self._run("look", {"claims": _claims(claims)})
        pairs = zip(claims, answer, strict=True)
        return {claim.account: Account.read(text) for claim, text in pairs if text}

    def close(self) -> None:
        """Close the connections to Redis."""
        self._redis.close()

    def _seeds(self, claims: Sequence[Claim]) -> Iterator[str]:
        now = self._now() if self._now is not None else time.time()
        periods = Periods.at(now)
        for claim in claims:
            account = Account(at=now, day=periods.day, month=periods.month)
            if self._seed is not None:
                account.seed(*self._seed(claim.account, periods), periods)
            yield account.text()

    def _run(self, op: str, given: Mapping[str, Any]) -> Any:
        payload = {**given, "now": self._now()} if self._now is not None else given
        with self._translated():
            return self._script(keys=[self._prefix], args=[op, json.dumps(payload)])

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except RedisError as error:
            raise UnavailableError(
                f"{self.label} does not answer: {' '.join(str(error).split())[:200]}",
                hint="check TUNERY_REDIS_URL, and that the server runs and lets you in",
            ) from error


def _claims(claims: Sequence[Claim]) -> list[dict[str, Any]]:
    return [{"account": claim.account, "bounds": dict(claim.bounds)} for claim in claims]
