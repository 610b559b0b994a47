"""Constrained completions: token masks from a grammar of labels or a JSON Schema, by llguidance."""

from __future__ import annotations

import json
import threading
import weakref
from collections import Counter, OrderedDict
from collections.abc import Sequence
from typing import Any

import numpy as np

from tunery.core.engine import Constraint
from tunery.core.errors import ConfigError, TooLargeNowError
from tunery.serve.grammar import JSON_OPTIONS, lark

_KEPT = 32  # compiled grammars
_LONGEST = 2**19
"""Length of a grammar at most [characters]; compiled, it takes some 300 bytes for each."""
_MOST = 4 * 2**20
"""Length of all grammars that requests are held to at once [characters]."""
_SMALL = 2**14
"""Length of a grammar that is taken even where there are that many: the number of requests bounds those."""


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
        # Behind the first line llguidance writes its whole state.
        return str(self._matcher.get_error()).partition("\n")[0] if self._matcher.is_error() else None

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
        self._compiled: OrderedDict[str, Any] = OrderedDict()
        self._held: Counter[str] = Counter()
        """Grammars that requests are held to, and how many each."""
        self._lock = threading.RLock()  # a request may end, and be collected, while it is held

    def start(self, constraint: Constraint) -> ConstraintState:
        """Return a fresh state.

        Raises:
            ConfigError: No labels, an empty one, two kinds of constraint, one that is too long, or one that
                llguidance refuses.
            TooLargeNowError: Requests are held to so many long grammars now that there is no memory for more.
        """
        _check(constraint)
        labels = constraint.labels
        unique = tuple(dict.fromkeys(labels)) if labels is not None else None
        try:
            grammar = _grammar(constraint, unique)
        except (ValueError, RecursionError) as error:
            raise _refused(constraint, error) from None
        if len(grammar) > _LONGEST:
            size = f"{len(grammar):,} characters, and {_LONGEST:,} is the most"
            raise _refused(constraint, f"it has {size}")
        with self._lock:
            self._check_room(grammar)
            if self._tokenizer is None:
                self._tokenizer = _llguidance_tokenizer(self._hf, self._stop_ids)
            matcher = self._compiled.get(grammar)
        if matcher is None:
            # Outside the lock: a grammar that takes long holds up its own client alone.
            matcher = self._compile(grammar, constraint)
        with self._lock:
            self._check_room(grammar)
            self._compiled[grammar] = matcher
            self._compiled.move_to_end(grammar)
            while len(self._compiled) > _KEPT or sum(map(len, self._compiled)) > _MOST // 4:
                self._compiled.popitem(last=False)
            state = ConstraintState(matcher.deep_copy(), unique if constraint.calls is None else None)
            self._held[grammar] += 1
        weakref.finalize(state, self._let_go, grammar)
        return state

    def _check_room(self, grammar: str) -> None:
        if len(grammar) <= _SMALL or grammar in self._held:
            return
        if sum(map(len, self._held)) + len(grammar) > _MOST:
            raise TooLargeNowError(
                "requests are held to so many long schemas that there is no memory for this one now",
                hint="try again, or with a shorter schema",
            )

    def _let_go(self, grammar: str) -> None:
        with self._lock:
            self._held[grammar] -= 1
            if not self._held[grammar]:
                del self._held[grammar]

    def _compile(self, grammar: str, constraint: Constraint) -> Any:
        import llguidance

        # llguidance bounds its own work: fuel, lexer states and grammar size end what would take long.
        matcher = llguidance.LLMatcher(self._tokenizer, grammar, log_level=0)
        if matcher.is_error():
            raise _refused(constraint, matcher.get_error())
        return matcher


def _check(constraint: Constraint) -> None:
    """Refuse what is no constraint.

    Raises:
        ConfigError: Says what it must be.
    """
    labels = constraint.labels
    kinds = (labels, constraint.json_schema, constraint.regex, constraint.grammar)
    given = sum(kind is not None for kind in kinds)
    if given > 1 or (given == 0 and constraint.calls is None):
        raise ConfigError(
            "a constraint is one of labels, a JSON schema, a regex and a grammar", param=constraint.field
        )
    if labels is not None and (not labels or not all(labels)):
        raise ConfigError("a constraint needs at least one label, and none may be empty", param="labels")
    if labels is not None and any("\ud800" <= c <= "\udfff" for label in labels for c in label):
        raise ConfigError("a label holds half a surrogate pair, which is no text", param="labels")


def _refused(constraint: Constraint, why: object) -> ConfigError:
    reason = "it is nested too deeply" if isinstance(why, RecursionError) else str(why).strip()
    first = (reason.splitlines() or ["no reason is given"])[0]
    return ConfigError(f"this constraint cannot be followed: {first:.300}", param=constraint.field)


def _llguidance_tokenizer(hf: Any, stop_ids: list[int]) -> Any:
    import llguidance.hf

    return llguidance.hf.from_tokenizer(hf, eos_token=stop_ids)


def _grammar(constraint: Constraint, labels: tuple[str, ...] | None) -> str:
    """Return a constraint as llguidance reads it; equal text, equal grammar, order of properties included.

    Raises:
        ValueError: A schema is no JSON that llguidance takes, or a grammar is none.
    """
    import llguidance

    if constraint.calls is None and constraint.regex is not None:
        return str(llguidance.LLMatcher.grammar_from_regex(constraint.regex))
    if constraint.calls is None and constraint.json_schema is not None:
        schema = json.dumps(constraint.json_schema, allow_nan=False)
        return str(llguidance.LLMatcher.grammar_from_json_schema(schema, overrides=JSON_OPTIONS))
    return str(llguidance.LLMatcher.grammar_from_lark(lark(constraint, labels)))
