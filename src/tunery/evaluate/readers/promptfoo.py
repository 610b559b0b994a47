"""What ``promptfoo eval --output FILE.json`` writes: a document with a result a test and prompt."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tunery.core.errors import ConfigError, listed
from tunery.core.ids import canonical_json
from tunery.evaluate.readers import Reader
from tunery.evaluate.readers.files import Numbered


def _rows(values: Sequence[Numbered]) -> Iterator[Numbered]:
    results = values[0].value["results"]["results"]
    asked = {_system(result): None for result in results}
    if len(asked) > 1:
        raise ConfigError(
            f"this promptfoo file holds the answers of {len(asked)} systems: {listed(list(asked), 5)}",
            hint="promptfoo eval --filter-providers NAME --output FILE.json, a file for each",
        )
    for number, result in enumerate(results, 1):
        yield Numbered(number, _row(result, number))


def _system(result: Mapping[str, Any]) -> str:
    provider, prompt = result.get("provider"), result.get("prompt") or {}
    named = provider.get("label") or provider.get("id") if isinstance(provider, Mapping) else provider
    # The rendered prompt differs from test to test; its place among the prompts does not.
    return f"{named}, prompt {result.get('promptIdx', prompt.get('label'))}"


def _row(result: Mapping[str, Any], number: int) -> dict[str, Any]:
    test = result.get("testCase") or {}
    wanted = [a.get("value") for a in test.get("assert") or () if a.get("type") == "equals"]
    return {
        "id": result.get("testIdx", number),
        "prediction": (result.get("response") or {}).get("output") or "",
        "reference": wanted[0] if len(wanted) == 1 else None,
        "correct": bool(result.get("success")),  # false, too, where the provider failed
        "scores": {**(result.get("namedScores") or {}), "score": result.get("score") or 0},
        "asked": canonical_json(result.get("vars") or test.get("vars")),
    }


def _recognises(first: Mapping[str, Any]) -> bool:
    results = first.get("results")
    return isinstance(results, Mapping) and bool(results.get("results")) and "stats" in results


READER = Reader(recognises=_recognises, rows=_rows)
