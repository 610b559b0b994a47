"""Turn tokens into text that is final: whole characters only, and never a piece of a stop string."""

from __future__ import annotations

from collections.abc import Sequence

from tunery.core.engine import Tokenizer

_REPLACEMENT = "\ufffd"  # how an incomplete character is decoded
_LONGEST_CHARACTER = 4  # bytes of UTF-8, hence tokens that one character can be spread over


class TextStream:
    """Decodes one completion token by token.

    Text is held back while its last character is incomplete, and while its end could be the beginning of a
    stop string. What :meth:`push` and :meth:`finish` return, joined, is :attr:`text`.

    Args:
        tokenizer: Decodes ids.
        stop: Strings that end the completion and are not part of it.
    """

    def __init__(self, tokenizer: Tokenizer, stop: Sequence[str]) -> None:
        self._tokenizer = tokenizer
        self._stop = tuple(s for s in stop if s)
        self._ids: list[int] = []
        self._from = 0  # ids before this one no longer influence how the rest decodes
        self._read = 0  # ids whose text went into _held
        self._known = ""  # text of _from.._read
        self._held = ""
        self.text = ""
        """Final text so far."""
        self.stopped = False
        """Whether a stop string was met."""

    def push(self, token_id: int) -> str:
        """Take one token and return the text that became final with it."""
        self._ids.append(token_id)
        return self._release(self._decode(flush=False), at_end=False)

    def finish(self) -> str:
        """Return what was held back, an incomplete character as U+FFFD."""
        return self._release(self._decode(flush=True), at_end=True)

    def _decode(self, *, flush: bool) -> str:
        if self._read == len(self._ids):
            return ""
        text = self._tokenizer.decode(self._ids[self._from :])
        waiting = len(self._ids) - self._read
        if text.endswith(_REPLACEMENT) and not flush and waiting < _LONGEST_CHARACTER:
            return ""
        new = text[len(self._known) :]
        self._from, self._read = self._read, len(self._ids)
        self._known = self._tokenizer.decode(self._ids[self._from :])
        return new

    def _release(self, new: str, *, at_end: bool) -> str:
        if self.stopped:
            return ""
        held = self._held + new
        cut = min((at for at in map(held.find, self._stop) if at >= 0), default=None)
        if cut is not None:
            self.stopped = True
            final, self._held = held[:cut], ""
        else:
            keep = 0 if at_end else self._possible_stop(held)
            final, self._held = held[: len(held) - keep], held[len(held) - keep :]
        self.text += final
        return final

    def _possible_stop(self, held: str) -> int:
        """Return the length of the longest end of ``held`` that begins a stop string."""
        longest = max((len(s) for s in self._stop), default=0)
        for size in range(min(longest - 1, len(held)), 0, -1):
            if any(s.startswith(held[-size:]) for s in self._stop):
                return size
        return 0
