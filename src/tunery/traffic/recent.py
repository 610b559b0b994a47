"""What was looked up a moment ago: for speed, and for the time that the database is away."""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeout
from typing import Generic, NamedTuple, TypeVar

from tunery.core.errors import UnavailableError
from tunery.traffic.config import CacheSettings

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")
_LOG = logging.getLogger(__name__)

_WAIT_S = 0.25
"""How long a look-up may take before what is known is used in its place [s]."""
_NEW_WAIT_S = 5.0
"""How long one may take of which nothing is known [s]."""
_AWAY_S = 1.0
"""How long a database that did not answer is taken to be away [s]."""
_THREADS = 4
_KEPT = 4096


class _Known(NamedTuple, Generic[V]):
    value: V
    at: float
    stamp: object


class Recent(Generic[K, V]):
    """Values that were looked up, each for a while; may be used from any thread.

    What is younger than ``fresh_s`` is used as it is, unless this process changed what it was read from. What
    is older is looked up again. Only where the database does not answer that is the old value used, up to the
    age of ``stale_s``. That there is none of a name is never remembered.

    Args:
        what: In the plural, for the log.
        settings: The two ages.
        stamp: Changes with every change made by this process.
        clock: Seconds that only rise.
    """

    def __init__(
        self,
        what: str,
        settings: CacheSettings,
        stamp: Callable[[], object],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._what = what
        self._settings = settings
        self._stamp = stamp
        self._clock = clock
        self._known: OrderedDict[K, _Known[V]] = OrderedDict()
        self._looking: dict[K, Future[V]] = {}
        self._lock = threading.Lock()
        self._threads = ThreadPoolExecutor(_THREADS, f"look-up-{what}")
        self._is_away = False
        self._away_until = 0.0

    def peek(self, key: K) -> V | None:
        """Return what may be used without asking anybody, None where somebody has to be asked."""
        known = self._known.get(key)
        if known is None:
            return None
        age = self._clock() - known.at
        if age < self._settings.fresh_s and known.stamp == self._stamp():
            return known.value
        usable = self._clock() < self._away_until and age < self._settings.stale_s
        return known.value if usable else None

    def get(self, key: K, look_up: Callable[[], V]) -> V:
        """Return a value, looked up where it is not fresh.

        Args:
            key: Whose.
            look_up: Asks the database; called in a thread of this object, once for all who wait for it.

        Raises:
            UnavailableError: The database does not answer, and nothing young enough is known.
            TuneryError: What ``look_up`` raises.
        """
        found = self.peek(key)
        if found is not None:
            return found
        known = self._known.get(key)
        usable = known is not None and self._clock() - known.at < self._settings.stale_s
        try:
            return self._look(key, look_up).result(timeout=_WAIT_S if usable else _NEW_WAIT_S)
        except (FutureTimeout, UnavailableError) as error:
            if known is None or not usable:
                raise self._unanswered() if isinstance(error, FutureTimeout) else error from None
            if not self._is_away:
                _LOG.warning("the database does not answer; %s known before are used", self._what)
            self._is_away, self._away_until = True, self._clock() + _AWAY_S
            return known.value
        except BaseException:
            self._known.pop(key, None)
            raise

    def close(self) -> None:
        """Look up nothing more."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _look(self, key: K, look_up: Callable[[], V]) -> Future[V]:
        with self._lock:
            looking = self._looking.get(key)
            if looking is None:
                looking = self._looking[key] = self._threads.submit(self._looked_up, key, look_up)
            return looking

    def _looked_up(self, key: K, look_up: Callable[[], V]) -> V:
        stamp, at = self._stamp(), self._clock()  # of before: what changes meanwhile is looked up again
        try:
            value = look_up()
            self._is_away, self._away_until = False, 0.0
            if value is not None:
                with self._lock:
                    self._known[key] = _Known(value, at, stamp)
                    self._known.move_to_end(key)
                    while len(self._known) > _KEPT:
                        self._known.popitem(last=False)
            else:
                self._known.pop(key, None)
            return value
        finally:
            with self._lock:
                self._looking.pop(key, None)

    def _unanswered(self) -> UnavailableError:
        return UnavailableError(
            f"the database has not answered for {_NEW_WAIT_S:.0f} s", hint="try again shortly"
        )
