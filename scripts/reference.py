"""Write docs/reference/settings.md and cli.md from the code; with --check, fail where they are stale.

A setting is a pydantic field with a docstring, a command is a function with one: both say what there is to
say, and these pages only set it in type. The glossary beside them is written by hand.
"""

from __future__ import annotations

import difflib
import json
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import typer

from tunery.api.config import ServerSettings
from tunery.cli.main import command_line
from tunery.evaluate.metrics import declaration_of, metric_names
from tunery.feedback.config import ExportConfig
from tunery.pipeline.recipe import Recipe
from tunery.synthesise.config import SynthesiseConfig

FOLDER = Path(__file__).resolve().parents[1] / "docs" / "reference"
WIDTH = 100
HEAD = "<!-- Written by scripts/reference.py; change the code and run it again. -->\n\n"

PAGES = (
    (
        "Recipe",
        Recipe,
        "One YAML file. Change any setting for one call with `key=value`, as in `train.epochs=4`.",
    ),
    ("Server", ServerSettings, "`tunery serve key=value …`"),
    ("Synthetic rows", SynthesiseConfig, "`tunery data synthesise RECIPE … --set KEY=VALUE`"),
    ("Feedback export", ExportConfig, "`tunery feedback export FOLDER key=value …`"),
)


def settings_page() -> str:
    """Return every setting: name, type with its bounds, default, effect."""
    parts = [HEAD, "# Settings\n"]
    for title, model, how in PAGES:
        parts.append(f"\n## {title}\n\n{how}\n")
        schema = model.model_json_schema()
        for path, name, variant in sections(schema):
            group = schema if name is None else schema["$defs"][name]
            heading = f"\n### `{path}`{variant and f' with `{variant}`'}\n\n" if path else "\n"
            parts.append(f"{heading}{prose(group.get('description', ''))}\n\n{table_of(group, schema)}")
    return "".join([*parts, metrics_table()])


def metrics_table() -> str:
    """Return every metric with what its file declares of it."""
    lines = [
        "\n## Metrics\n\nWhat `goal.metric`, `evaluate.metrics` and gate rules may name.\n\n",
        "| metric | as written in reports | better | needs | `auto` for |\n| --- | --- | --- | --- | --- |\n",
    ]
    for name in metric_names():
        one = declaration_of(name)
        better = "higher" if one.higher_is_better else "lower"
        cells = [f"`{name}`", one.title, better, ", ".join(one.needs) or "–", ", ".join(one.auto) or "–"]
        lines.append(f"| {' | '.join(cells)} |\n")
    return "".join(lines)


class Section(NamedTuple):
    """One group of settings."""

    path: str
    """Where it stands in the recipe; empty for the root."""
    name: str | None
    """Of its definition."""
    variant: str = ""
    """What tells it from others that may stand there, as ``method: sft``."""


def sections(schema: Mapping[str, Any]) -> Iterator[Section]:
    """Yield every group of settings, the root's first; each group once."""
    waiting = [Section("", None)]
    seen: set[str] = set()
    while waiting:
        path, name, _ = here = waiting.pop(0)
        yield here
        group = schema if name is None else schema["$defs"][name]
        inner = []
        for key, value in group.get("properties", {}).items():
            found = [r for r in references(value) if schema["$defs"][r[0]].get("properties")]
            for reference, suffix in found:
                if reference not in seen:
                    seen.add(reference)
                    variant = constant_of(schema["$defs"][reference]) if len(found) > 1 else ""
                    inner.append(Section(f"{path}.{key}{suffix}".lstrip("."), reference, variant))
        waiting = inner + waiting


def constant_of(group: Mapping[str, Any]) -> str:
    """Return the setting that a group has for a name, as YAML writes it; empty where there is none."""
    named = (f"{key}: {value['const']}" for key, value in group["properties"].items() if "const" in value)
    return next(named, "")


def references(value: Mapping[str, Any], suffix: str = "") -> Iterator[tuple[str, str]]:
    """Yield the groups that a setting is made of, with what stands behind its name in a path."""
    if "$ref" in value:
        yield value["$ref"].rpartition("/")[2], suffix
    for option in value.get("anyOf", ()):
        yield from references(option, suffix)
    if isinstance(value.get("items"), Mapping):
        yield from references(value["items"], f"{suffix}[0]")
    if isinstance(value.get("additionalProperties"), Mapping):
        yield from references(value["additionalProperties"], f"{suffix}.NAME")


def table_of(group: Mapping[str, Any], schema: Mapping[str, Any]) -> str:
    """Return a group's settings as a table."""
    lines = ["| setting | value | default | effect |\n", "| --- | --- | --- | --- |\n"]
    required = set(group.get("required", ()))
    for key, value in group.get("properties", {}).items():
        default = "required" if key in required else default_text(value)
        cells = [f"`{key}`", kind(value), default, prose(effect(value, schema))]
        lines.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |\n")
    return "".join(lines)


def effect(value: Mapping[str, Any], schema: Mapping[str, Any]) -> str:
    """Return what a setting does; one that says the same as its group is described there alone."""
    if "description" not in value and "$ref" in value:
        return str(schema["$defs"][value["$ref"].rpartition("/")[2]].get("description", ""))
    return str(value.get("description", ""))


def default_text(value: Mapping[str, Any]) -> str:
    """Return a default as YAML would have it; a group's is that of its own settings."""
    default = value.get("default")
    if isinstance(default, dict) and default:
        return "its own"
    return f"`{json.dumps(default, ensure_ascii=False)}`"


def kind(value: Mapping[str, Any]) -> str:
    """Return what a setting may be, with its bounds."""
    if "anyOf" in value:
        return " or ".join(dict.fromkeys(kind(option) for option in value["anyOf"]))
    if "const" in value:
        return f"`{json.dumps(value['const'])}`".replace('"', "")
    if "enum" in value:
        return ", ".join(f"`{option}`".encode("unicode_escape").decode() for option in value["enum"])
    if "$ref" in value:
        return "settings"
    if value.get("type") == "array":
        items = value.get("items")
        return f"list of {kind(items)}" if isinstance(items, Mapping) else "list"
    if value.get("type") == "object":
        inner = value.get("additionalProperties")
        return f"names to {kind(inner)}" if isinstance(inner, Mapping) and inner else "mapping"
    names = {"integer": "whole number", "number": "number", "string": "text", "boolean": "true or false"}
    return " ".join([names.get(str(value.get("type")), str(value.get("type", "any"))), *bounds(value)])


def bounds(value: Mapping[str, Any]) -> list[str]:
    """Return the limits of a number."""
    signs = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
    found = [f"{sign} {value[key]:g}" for key, sign in signs.items() if key in value]
    return [", ".join(found)] if found else []


def prose(text: str) -> str:
    """Return a docstring as one paragraph of Markdown."""
    return re.sub(r"``([^`]*)``", r"`\1`", " ".join(text.split()))


def cli_page() -> str:
    """Return the help text of every command."""
    root = typer.main.get_command(command_line())
    parts = [
        HEAD,
        "# Command line\n\nAnswers go to stdout, progress to stderr. `--json` on any command prints one JSON "
        "value; an error is then one JSON object at the end of stderr.\n\n",
        "| exit code | means |\n| --- | --- |\n",
        *(f"| {code} | {meaning} |\n" for code, meaning in exit_codes()),
    ]
    settings = {**root.context_settings, "terminal_width": WIDTH, "max_content_width": WIDTH}
    for context in contexts(typer.Context(root, info_name="tunery", **settings)):
        text = "\n".join(line.rstrip() for line in context.get_help().splitlines())
        parts.append(f"\n## {context.command_path}\n\n```text\n{text}\n```\n")
    return "".join(parts)


def exit_codes() -> Iterator[tuple[int, str]]:
    """Yield exit codes with the first line of what they stand for."""
    from tunery.core import errors

    yield 0, "Done."
    yield 1, "A fault of Tunery's own, with a traceback."
    kinds = [v for v in vars(errors).values() if isinstance(v, type) and issubclass(v, errors.TuneryError)]
    for error in sorted(kinds, key=lambda e: e.exit_code):
        if error is not errors.TuneryError:
            yield error.exit_code, (error.__doc__ or "").splitlines()[0]
    yield 130, "Interrupted by Ctrl-C; the same command continues."
    yield 143, "Ended by SIGTERM; the same command continues."


def contexts(context: Any) -> Iterator[Any]:
    """Yield the context of a command and of all below it."""
    yield context
    for name, verb in getattr(context.command, "commands", {}).items():
        yield from contexts(
            typer.Context(verb, info_name=name, parent=context, terminal_width=WIDTH, max_content_width=WIDTH)
        )


def main(arguments: list[str]) -> int:
    """Write the pages, or check them; return the exit code."""
    stale = 0
    for name, text in (("settings.md", settings_page()), ("cli.md", cli_page())):
        path = FOLDER / name
        written = path.read_text(encoding="utf-8") if path.is_file() else ""
        if written == text:
            continue
        if "--check" not in arguments:
            path.write_text(text, encoding="utf-8")
            sys.stdout.write(f"wrote {path}\n")
            continue
        stale += 1
        changed = [
            line
            for line in difflib.unified_diff(written.splitlines(), text.splitlines(), lineterm="", n=0)
            if line[:1] in "+-" and line[:3] not in ("+++", "---")
        ]
        sys.stderr.write(f"{path} is stale: {len(changed)} lines differ\n")
        sys.stderr.writelines(f"  {line[:150]}\n" for line in changed[:5])
    if stale:
        sys.stderr.write("  try: python scripts/reference.py\n")
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
