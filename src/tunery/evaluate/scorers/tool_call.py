"""Tool calls: the answer calls the right functions with arguments that are allowed."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from tunery.core.example import Example
from tunery.core.tool_text import read_answer, read_functions
from tunery.evaluate.scorers import Declaration, Scorer, ScorerOptions

DECLARATION = Declaration("tool calls right")
POSSIBLE = "possible_answer"
"""Of a row's metadata: what BFCL calls ground truth, a list of calls, each argument with all its values."""
_TYPES: Mapping[str, type] = {
    "string": str,
    "integer": int,
    "float": float,
    "number": float,
    "boolean": bool,
    "array": list,
    "tuple": list,
    "dict": dict,
    "object": dict,
    "any": str,
}
_MARKS = re.compile(r"[ ,./\-_*^]")
Call = tuple[str, Mapping[str, Any]]


class _Wanted(NamedTuple):
    """A call that is to be made."""

    name: str
    allowed: Mapping[str, Sequence[Any]]
    """Argument to its allowed values; ``""`` among them says that it may be left out."""


class ToolCallMatch:
    """1 when the answer calls what is wanted, by the rules of BFCL's AST match.

    Calls may come in any order. Each needs the function's name, its required arguments, no argument that is
    not known, and of every argument a value of the declared type that is allowed; whole numbers do for
    floats. Strings lose case and the signs ``,./-_*^`` and spaces, quotes are one. An argument whose allowed
    values hold ``""`` may be left out. Where nothing is to be called, any call is wrong.

    Wanted are the calls of the reference, or the row's ``possible_answer``; types and required arguments are
    those of the functions in the system turn.

    Source:
        Patil et al. (2025), ICML, The Berkeley Function Calling Leaderboard: AST evaluation.
    """

    def score(self, prediction: str, example: Example) -> float:
        """Return 1.0 or 0.0."""
        return float(self.correct(prediction, example))

    def correct(self, prediction: str, example: Example) -> bool:
        """Return whether the calls are those wanted."""
        wanted = _wanted(example)
        calls = [(call.name, json.loads(call.arguments)) for call in read_answer(prediction).calls]
        if wanted is None or len(calls) != len(wanted):
            return False
        declared = _functions(example)
        for one in wanted:
            match = next((call for call in calls if _matches(call, one, declared.get(one.name))), None)
            if match is None:
                return False
            calls.remove(match)
        return True

    def problem(self, example: Example) -> str | None:
        """Return what is wrong with the calls that a row wants."""
        return (
            None
            if _wanted(example) is not None
            else f"its {POSSIBLE} is no list of calls with lists of values"
        )


def _wanted(example: Example) -> list[_Wanted] | None:
    """Return the calls that a row wants; None where they cannot be read."""
    possible = example.metadata.get(POSSIBLE)
    if possible is None:
        calls = [(call.name, json.loads(call.arguments)) for call in read_answer(example.reference).calls]
        return [_Wanted(name, {key: [value] for key, value in given.items()}) for name, given in calls]
    try:
        possible = json.loads(possible) if isinstance(possible, str) else possible
        pairs = [pair for call in possible for pair in call.items()]
        found = [_Wanted(name, dict(allowed)) for name, allowed in pairs]
    except (ValueError, TypeError, AttributeError, RecursionError):
        return None
    return found if all(isinstance(v, list) for one in found for v in one.allowed.values()) else None


def _functions(example: Example) -> dict[str, Mapping[str, Any]]:
    """Return the parameters of each function that the system turn tells of, by name."""
    found = {}
    for turn in example.prompt:
        for described in read_functions(turn.content).functions if turn.role == "system" else ():
            function = described.get("function", described)
            if isinstance(function, Mapping) and isinstance(function.get("parameters"), Mapping):
                found[str(function.get("name"))] = function["parameters"]
    return found


def _matches(call: Call, wanted: _Wanted, declared: Mapping[str, Any] | None) -> bool:
    name, given = call
    properties = (declared or {}).get("properties") or {}
    if name != wanted.name or any(key not in given for key in (declared or {}).get("required") or ()):
        return False
    for key, value in given.items():
        if key not in wanted.allowed or (declared is not None and key not in properties):
            return False
        if not _is_allowed(value, wanted.allowed[key], properties.get(key)):
            return False
    return all(key in given or "" in allowed for key, allowed in wanted.allowed.items())


def _is_allowed(value: Any, allowed: Sequence[Any], about: Any) -> bool:
    """Return whether an argument has the type and one of the values that it may have."""
    about = about if isinstance(about, Mapping) else {}
    expected = _TYPES.get(str(about.get("type")))
    if expected is float and type(value) is int:
        value = float(value)
    if expected is not None and type(value) is not expected:
        # A value of another type is right where the allowed ones are of it: the name of a variable, say.
        first = next((one for one in allowed if one != ""), None)
        if type(value) is not type(first):
            return False
    return any(_same(value, one) for one in allowed if one != "" or value == "")


def _same(value: Any, allowed: Any) -> bool:
    """Return whether a value is an allowed one; within an allowed object each key has a list of values."""
    if isinstance(value, Mapping) and isinstance(allowed, Mapping):
        known = all(key in allowed and _among(inner, allowed[key]) for key, inner in value.items())
        return known and all(key in value or _may_lack(inner) for key, inner in allowed.items())
    if isinstance(value, list) and isinstance(allowed, list):
        return len(value) == len(allowed) and all(_same(v, a) for v, a in zip(value, allowed, strict=True))
    if isinstance(value, str) and isinstance(allowed, str):
        return _plain(value) == _plain(allowed)
    if isinstance(value, bool) or isinstance(allowed, bool):
        return value is allowed
    return bool(value == allowed)


def _among(value: Any, allowed: Any) -> bool:
    # The arguments of a reference have their values bare, those of a possible answer in lists.
    return _same(value, allowed) or (isinstance(allowed, list) and any(_same(value, one) for one in allowed))


def _may_lack(allowed: Any) -> bool:
    return isinstance(allowed, list) and "" in allowed


def _plain(text: str) -> str:
    return _MARKS.sub("", text).lower().replace("'", '"')


def make(options: ScorerOptions) -> Scorer:
    """Return the scorer; it has no options."""
    return ToolCallMatch()
