"""The recipe to start with: what a file and a base decide is written out, the rest stays at its default."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from tunery.core.errors import ConfigError
from tunery.core.example import Example
from tunery.data.labels import find_labels
from tunery.inspect.json_answers import json_value

_NAME = re.compile(r"[^a-z0-9]+")
_SHORT = 80
"""An answer up to this may be held against the reference word by word [characters]."""
_MOST_ANSWER = 2048


def labels_of(examples: Sequence[Example]) -> tuple[str, ...] | None:
    """Return the classes that answers are drawn from; None where they are open.

    Raises:
        ConfigError: There is one class only.
    """
    if any(_is_judged(e) for e in examples):
        return None
    return find_labels([e.reference for e in examples], "auto")


def metric_for(examples: Sequence[Example]) -> str:
    """Return the metric that judges such answers best."""
    answers = [e.reference for e in examples]
    if not answers or any(_is_judged(e) for e in examples):
        return "perplexity"
    if all(isinstance(json_value(a.strip()), dict) for a in answers):
        return "field_match"
    return "exact_match" if all(len(a) <= _SHORT and "\n" not in a for a in answers) else "perplexity"


def _is_judged(example: Example) -> bool:
    """Tell whether a row says which answers people liked, and not which one is right."""
    return example.rejected is not None or example.desirable is not None


def recipe_values(  # noqa: PLR0913 - each is one thing that a recipe says
    name: str,
    base: str,
    source: dict[str, Any],
    *,
    chat_template: str | None,
    metric: str,
    method: str,
    max_tokens: int | None,
    answer_tokens: int,
) -> dict[str, Any]:
    """Return the settings of a recipe.

    Args:
        name: Of the model.
        base: As it was typed.
        source: ``path`` and whatever else reading the file needs.
        chat_template: In place of the base's own.
        metric: That decides.
        method: Of training.
        max_tokens: Where rows are longer than the base's window [tokens].
        answer_tokens: The longest answer with its stop token [tokens].
    """
    return {
        "name": name,
        "goal": {"metric": metric},
        "base": base,
        **({"chat_template": chat_template} if chat_template else {}),
        "data": {"sources": [source], **({"max_tokens": max_tokens} if max_tokens else {})},
        # How far preferences have to move a model depends on how many steps there are to do it in.
        **({"train": {"method": method, "learning_rate": "auto"}} if method != "sft" else {}),
        "evaluate": {"max_new_tokens": min(_MOST_ANSWER, max(8, 8 * -(-answer_tokens // 8)))},
    }


def recipe_text(values: dict[str, Any]) -> str:
    """Return settings as YAML, in their order."""
    return yaml.safe_dump(values, sort_keys=False, allow_unicode=True, width=110)


def model_name(file: Path) -> str:
    """Return a name for the model out of a file's.

    >>> model_name(Path("data/Support Tickets.v2.jsonl.gz"))
    'support-tickets-v2'
    """
    stem = file.name
    for ending in (".gz", ".zst", file.suffix if file.suffix not in (".gz", ".zst") else ""):
        stem = stem.removesuffix(ending)
    if file.suffix in (".gz", ".zst"):
        stem = Path(stem).stem
    return _NAME.sub("-", stem.casefold()).strip("-")[:64].strip("-") or "model"


def write_recipe(text: str, path: Path) -> None:
    """Write a recipe where none is yet.

    Raises:
        ConfigError: There is one, or it cannot be written.
    """
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise ConfigError(f"{path} is there already", hint=f"rm {path}, or name another file") from None
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from None
