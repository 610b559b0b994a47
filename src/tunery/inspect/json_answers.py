"""JSON in answers: as it is, or in a code fence."""

from __future__ import annotations

import json
import re

_FENCE = re.compile(r"\A```[\w+-]*[ \t]*\n(.*?)\n?```\Z", re.S)


def json_value(text: str) -> object | None:
    """Return the object or array that a text is in JSON; None for anything else."""
    if text[:1] not in ("{", "["):
        return None
    try:
        value: object = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, (dict, list)) else None


def unfenced(text: str) -> str | None:
    """Return what stands in the one code fence that a text is; None where it is no such text."""
    match = _FENCE.match(text.strip())
    return match.group(1) if match and "```" not in match.group(1) else None


def json_answer(text: str) -> object | None:
    """Return the object or array that a text is in JSON, as it is or in the one code fence that it is."""
    bare = text.strip()
    inner = unfenced(bare)
    return json_value((bare if inner is None else inner).strip())
