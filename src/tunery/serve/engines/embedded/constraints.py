"""Constrained completions: token masks from a grammar of labels or a JSON Schema, by llguidance."""

from __future__ import annotations

import functools
import json
import threading
from collections.abc import Sequence
from typing import Any

import numpy as np

from tunery.core.engine import Constraint
from tunery.core.errors import ConfigError

_KEPT = 32  # compiled grammars
_JSON_OPTIONS = {
    # Bounded, because a small base model may print blanks until its tokens run out.
    "whitespace_pattern": r"[ \t\n\r]{0,16}",
    # What json.dumps writes for é by default.
    "json_allow_general_unicode_escapes": True,
}


class ConstraintState:
    """Where one completion stands in its grammar.

    Args:
        matcher: llguidance's matcher, for this completion alone.
        labels: The labels, where those are the constraint.
    """

    def __init__(self, matcher: Any, labels: tuple[str, ...] | None) -> None:
        self._matcher = matcher
        self._labels = labels

    def allowed(self) -> np.ndarray:
        """Return which tokens may come next, bool, shape ``(tokenizer vocabulary rounded up to 32,)``."""
        bits = np.frombuffer(self._matcher.compute_bitmask(), dtype=np.uint8)
        return np.unpackbits(bits, bitorder="little").astype(bool)

    def accept(self, token_id: int) -> None:
        """Take the token that was chosen among the allowed ones."""
        self._matcher.consume_token(token_id)

    def accepts(self, ids: Sequence[int]) -> bool:
        """Return whether all these tokens may come next; takes none of them."""
        return int(self._matcher.validate_tokens(list(ids))) == len(ids)

    @property
    def complete(self) -> bool:
        """Whether nothing but the stop token may follow."""
        return bool(self._matcher.is_stopped())

    @property
    def error(self) -> str | None:
        """Why the grammar gave up (a schema too deep to follow), None while it works."""
        return str(self._matcher.get_error()) if self._matcher.is_error() else None

    def rest(self, text: str) -> str | None:
        """Return what must still follow ``text`` when only one label is left, else None."""
        if self._labels is None:
            return None
        left = [label for label in self._labels if label.startswith(text)]
        return left[0][len(text) :] if len(left) == 1 else None


class Grammars:
    """Compiles constraints and keeps them; used from the threads that submit requests.

    Args:
        hf_tokenizer: The fast Hugging Face tokenizer.
        stop_ids: Ids that end a completion.
    """

    def __init__(self, hf_tokenizer: Any, stop_ids: frozenset[int]) -> None:
        self._hf = hf_tokenizer
        self._stop_ids = sorted(stop_ids)
        self._tokenizer: Any = None  # built at the first constraint: it takes about a second
        self._compiled = functools.lru_cache(_KEPT)(self._compile)
        self._lock = threading.Lock()

    def start(self, constraint: Constraint) -> ConstraintState:
        """Return a fresh state.

        Raises:
            ConfigError: No labels, an empty one, both kinds of constraint, or a schema llguidance refuses.
        """
        labels, schema = constraint.labels, constraint.json_schema
        if (labels is None) == (schema is None):
            raise ConfigError("a constraint is either labels or a JSON schema", param="constraint")
        if labels is not None and (not labels or not all(labels)):
            raise ConfigError("a constraint needs at least one label, and none may be empty", param="labels")
        if labels is not None and any("\ud800" <= c <= "\udfff" for label in labels for c in label):
            raise ConfigError("a label holds half a surrogate pair, which is no text", param="labels")
        unique = tuple(dict.fromkeys(labels)) if labels is not None else None
        with self._lock:
            matcher = self._compiled(unique, None if schema is None else json.dumps(schema))
            return ConstraintState(matcher.deep_copy(), unique)

    def _compile(self, labels: tuple[str, ...] | None, schema: str | None) -> Any:
        import llguidance
        import llguidance.hf

        if self._tokenizer is None:
            self._tokenizer = llguidance.hf.from_tokenizer(self._hf, eos_token=self._stop_ids)
        if labels is not None:
            grammar = llguidance.LLMatcher.grammar_from_lark(f"start: {' | '.join(map(_literal, labels))}")
        else:
            grammar = llguidance.LLMatcher.grammar_from_json_schema(schema, overrides=_JSON_OPTIONS)
        matcher = llguidance.LLMatcher(self._tokenizer, grammar, log_level=0)
        if matcher.is_error():
            reason = str(matcher.get_error()).strip().splitlines()[0]
            raise ConfigError(f"this constraint cannot be followed: {reason:.300}", param="response_format")
        return matcher


def _literal(text: str) -> str:
    """Return text as a Lark string: a JSON string in which every unprintable character is escaped."""
    quoted = json.dumps(text, ensure_ascii=False)
    return "".join(c if c.isprintable() or ord(c) > 0xFFFF else f"\\u{ord(c):04x}" for c in quoted)
