"""Prompts to the teacher and the judge, kept as templates beside this file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from tunery.core.ids import sha256_file

if TYPE_CHECKING:
    from jinja2 import Template

PromptName = Literal["paraphrase", "label", "self_instruct", "judge"]
_FOLDER = Path(__file__).parent


class Prompt(NamedTuple):
    """One prompt."""

    template: Template
    version: str
    """``NAME-<12 hex digits>``: hash of the template's file."""

    def turns(self, values: Mapping[str, Any]) -> list[dict[str, str]]:
        """Return the system turn and the user turn with ``values`` filled in."""
        context = self.template.new_context(dict(values))
        return [
            {"role": role, "content": "".join(self.template.blocks[role](context)).strip()}
            for role in ("system", "user")
        ]


@cache
def prompt(name: PromptName) -> Prompt:
    """Return a prompt by its name."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    # Rows are set into plain text, not into a page: nothing is to be escaped for HTML.
    environment = Environment(  # noqa: S701
        loader=FileSystemLoader(_FOLDER), undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["json"] = lambda value: json.dumps(value, ensure_ascii=False)
    file = f"{name}.j2"
    return Prompt(environment.get_template(file), f"{name}-{sha256_file(_FOLDER / file)[:12]}")
