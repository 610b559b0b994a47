"""A recipe from another tool's configuration, with all of it that the recipe does not say."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

from tunery.core.config import Record
from tunery.core.errors import ConfigError
from tunery.core.markdown import without_controls
from tunery.core.plugins import load_plugin, plugin_names
from tunery.pipeline.doctor.first_recipe import model_name, recipe_text
from tunery.pipeline.imports.draft import Draft, Left, Taken, Tool
from tunery.pipeline.recipe import parse_recipe

TOOLS = "tunery.pipeline.imports"
"""Package with one file for each tool."""


class Imported(Record):
    """What became of a configuration."""

    tool: str
    """Title of the tool."""
    recipe: dict[str, Any]
    """Settings of a recipe that loads."""
    taken: tuple[Taken, ...]
    left: tuple[Left, ...]
    """Every setting of the other configuration that is not in the recipe, what a person has to do first."""

    @property
    def text(self) -> str:
        """The recipe as YAML, what was left out as comments before it."""
        told = [
            f"#   {_shown(one.key)}: {_shown(one.value)}\n#     {one.kind}: {_shown(one.meaning, most=200)}"
            for one in self.left
        ]
        head = [f"# Made from a configuration of {self.tool}."]
        if told:
            head += ["# Settings of it that are not in this recipe:", *told]
        return "\n".join([*head, recipe_text(self.recipe)])


def tool_names() -> tuple[str, ...]:
    """Return the names of the tools, as a person types them."""
    return tuple(name.replace("_", "-") for name in plugin_names(TOOLS))


def recipe_from(tool: str, path: Path) -> Imported:
    """Read another tool's configuration and write what of it a recipe can say.

    Args:
        tool: One of :func:`tool_names`.
        path: The configuration.

    Raises:
        NotFoundError: There is no such tool.
        ConfigError: The file is not one of the tool's, or what it says makes no recipe.
    """
    kind = cast(Tool, load_plugin(TOOLS, "tool", tool.replace("-", "_")).TOOL)
    draft = Draft(kind.read(path))
    draft.recipe = {"name": model_name(path), "goal": {"metric": "perplexity"}}
    try:
        kind.translate(draft)
    except (ValueError, TypeError, AttributeError, LookupError) as error:
        raise ConfigError(f"{path}: a setting holds what {kind.title} would not take ({error})") from None
    draft.finish(kind)
    order = ("name", "goal", "base", "chat_template", "data", "train", "track")
    values = {name: draft.recipe[name] for name in order if name in draft.recipe}
    parse_recipe(values, where=f"the recipe made of {path}")
    kinds = ("to do", "no counterpart", "unknown", "not needed", "off")
    left = sorted(draft.left, key=lambda one: kinds.index(one.kind))
    return Imported(tool=kind.title, recipe=values, taken=tuple(draft.taken), left=tuple(left))


def _shown(value: Any, *, most: int = 80) -> str:
    """Return a text of one line: what the other configuration holds never leaves its comment."""
    text = without_controls(" ".join(str(value).split()))
    return text if len(text) <= most else f"{text[: most - 3]}..."
