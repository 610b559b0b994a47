"""Which rows run in the next step: admit, interleave prompts with decoding, make room."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

from tunery.core.errors import TooLargeNowError
from tunery.core.faults import is_out_of_memory
from tunery.serve.engines.embedded.kv_arena import KvArena
from tunery.serve.engines.embedded.prefix_cache import PrefixCache
from tunery.serve.engines.embedded.request import Row
from tunery.serve.engines.embedded.settings import EmbeddedSettings


class Work(NamedTuple):
    """One row's share of a step."""

    slot: int
    row: Row
    size: int
    """Tokens [count]."""


class Step(NamedTuple):
    """What the next forward computes."""

    decoding: int
    """The first ``decoding`` shares are slots 0, 1, … with one token each."""
    work: list[Work]


class Scheduler:
    """Holds waiting and running rows; a running row's index is its slot in the arena.

    Every running row takes part in every step. Rows with one token left (decoding) stand first; prompts
    share ``prefill_chunk_tokens`` per step, in order of arrival, so a long prompt slows the others down but
    never stops them. A waiting request that shares its beginning with a prompt just being computed waits
    until that one is in the prefix cache, so that a batch of prompts behind one prefix computes it once.

    Args:
        settings: Bounds.
        arena: Storage of running rows.
        cache: Stored prompts.
    """

    _LOOK_AHEAD = 64  # waiting requests looked at per step: comparing prompts is not free

    def __init__(self, settings: EmbeddedSettings, arena: KvArena, cache: PrefixCache) -> None:
        self._settings = settings
        self._arena = arena
        self._cache = cache
        self.rows: list[Row] = []
        self.waiting: deque[Row] = deque()

    @property
    def idle(self) -> bool:
        """Whether there is nothing to do."""
        return not self.rows and not self.waiting

    def drop_cancelled(self) -> None:
        """Forget rows whose clients have gone."""
        if any(row.future.cancelled() for row in self.waiting):
            self.waiting = deque(row for row in self.waiting if not row.future.cancelled())
        for row in [row for row in self.rows if row.future.cancelled()]:
            self.remove(row)

    def next_step(self) -> Step:
        """Choose rows and tokens, with room for all of them in the arena."""
        work = self._share()
        # Ends: a row alone fits, because no request is longer than the arena.
        while work and not self._has_room(max(w.row.computed + w.size for w in work)):
            if len(self.rows) > 1:
                self._give_way()
            else:
                self.refuse(self.rows[0])
            work = self._share()
        decoding = 0
        while decoding < len(work) and work[decoding].slot == decoding and work[decoding].size == 1:
            decoding += 1
        # Neighbours with one adapter make one product; decoding rows must stay in slot order.
        work[decoding:] = sorted(work[decoding:], key=lambda w: w.row.adapter)
        return Step(decoding, work)

    def _has_room(self, length: int) -> bool:
        """Make room in the arena; False where there is none, by its bound or by the machine's memory."""
        try:
            return self._arena.reserve(len(self.rows), length)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            # Once more without stored prompts; they are a matter of speed.
            if not self._cache.clear():
                return False
        try:
            return self._arena.reserve(len(self.rows), length)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            return False

    def relieve(self, step: Step) -> None:
        """Ask for less memory than a step did that there was none for; none of its tokens are computed."""
        if not self._cache.clear():
            self.refuse(max(step.work, key=lambda w: (w.size, len(w.row.tokens), w.row.arrival)).row)

    def refuse(self, row: Row) -> None:
        """End a running row for which there is no memory."""
        row.fail(
            TooLargeNowError(
                f"there is not enough memory for this request of {len(row.tokens):,} tokens now",
                hint="try again, or with a shorter prompt; engine.max_cache_tokens bounds what all requests "
                "take together",
            )
        )
        self.remove(row)

    def _share(self) -> list[Work]:
        """Give each running row its tokens and fill what is left of the chunk with waiting rows."""
        budget = self._settings.prefill_chunk_tokens
        work = []
        for slot, row in enumerate(self.rows):
            # A decoding row gets its token whatever the budget: that is what keeps long prompts from
            # stopping the others.
            count = 1 if row.pending == 1 else min(row.pending, budget)
            budget -= count if row.pending > 1 else 0
            if count:
                work.append(Work(slot, row, count))
        while budget > 0 and len(self.rows) < self._settings.max_batch:
            admitted = self._admit(self._leaders(work))
            if admitted is None:
                break
            count = min(admitted.pending, budget)
            budget -= count
            work.append(Work(len(self.rows) - 1, admitted, count))
        return work

    def _leaders(self, work: Sequence[Work]) -> list[Row]:
        """Return rows whose prompts are being computed and will be stored."""
        return [w.row for w in work if not w.row.stored and self._cache.wants(w.row.adapter, w.row.kept)]

    def _admit(self, computing: Sequence[Row]) -> Row | None:
        """Move the first waiting row that has room and nothing to wait for into a slot."""
        for index in range(min(len(self.waiting), self._LOOK_AHEAD)):
            row = self.waiting[index]
            if any(
                leader.adapter == row.adapter and self._cache.gain(row.adapter, leader.kept, row.prompt)
                for leader in computing
            ):
                continue
            longest = max(len(r.tokens) for r in [row, *self.rows])
            try:
                if not self._arena.reserve(len(self.rows) + 1, longest):
                    return None
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
                if self.rows or self._cache.clear():
                    return None  # the memory of those that run, or of stored prompts, will do for it
                del self.waiting[index]
                self.rows.append(row)
                self.refuse(row)
                return None
            del self.waiting[index]
            self._start(row)
            return row
        return None

    def _start(self, row: Row) -> None:
        self.rows.append(row)
        # The prompt's last token is always computed: its logits are wanted.
        shared = None if row.reads_prompt else self._cache.find(row.adapter, row.prompt[:-1])
        row.computed = 0 if shared is None else shared.shape[3]
        if row.cached_tokens is None:  # not again after it had to give way
            row.cached_tokens = row.computed
        if shared is not None:
            self._arena.load(len(self.rows) - 1, shared)

    def advance(self, work: Work) -> None:
        """Note that a share was computed, and store the prompt once all of it is."""
        row = work.row
        row.computed += work.size
        if not row.stored and row.computed >= len(row.kept):
            row.stored = True
            if self._cache.wants(row.adapter, row.kept):
                try:
                    block = self._arena.copy(work.slot, len(row.kept))
                except Exception as error:
                    if not is_out_of_memory(error):
                        raise
                    self._cache.clear()  # a matter of speed; nobody's answer hangs on it
                    return
                self._cache.store(row.adapter, row.kept, block)

    def _give_way(self) -> None:
        """Send the youngest row back to wait; it is computed again later."""
        youngest = max(self.rows, key=lambda row: row.arrival)
        self.remove(youngest)
        youngest.restart()
        self.waiting.appendleft(youngest)

    def remove(self, row: Row) -> None:
        """Free a row's slot, keeping decoding rows in front."""
        hole = self.rows.index(row)
        last = len(self.rows) - 1
        # Decoding rows attend as one block only as far as no prompt stands among them. So where a prompt is
        # last, the row before it fills the hole, and the prompt takes that row's place.
        if self.rows[last].pending > 1 and hole < last - 1:
            self._fill(hole, last - 1)
            hole = last - 1
        if hole != last:
            self._fill(hole, last)
        self.rows.pop()

    def _fill(self, hole: int, source: int) -> None:
        self.rows[hole] = self.rows[source]
        self._arena.move(source, hole, self.rows[source].computed)
