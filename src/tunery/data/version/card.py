"""The data card: what is in a dataset version, where it came from and how to make it again, in Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import yaml

from tunery.core.dataset import DatasetVersion
from tunery.core.errors import listed
from tunery.core.figures import count, percent_of
from tunery.core.markdown import bullets, code, fenced, inline, table
from tunery.data.config import current_settings
from tunery.data.version.reasons import meaning

CARD_FILE = "card.md"
_SHOWN_LABELS = 60


def data_card(version: DatasetVersion) -> str:
    """Return the card of a dataset version as Markdown.

    It lies in the version's folder as ``card.md``. Text from users (labels, prompts, file names, warnings) is
    escaped and cannot end a table or a code block.

    """
    parts = [
        f"# Dataset {code(version.name)}, version `{code(version.id)}`",
        _opening(version),
        "## Sources",
        _sources(version),
        "## Rows that were left out",
        _dropped(version),
        "## Texts that were changed",
        _changed(version),
        "## Personal data masked",
        _masked(version),
        "## Splits",
        _splits(version),
        "## Labels",
        _labels(version),
        "## Warnings",
        bullets(inline(w) for w in version.warnings),
        "## How to make it again",
        _again(version),
    ]
    return "\n\n".join(part.strip("\n") for part in parts if part) + "\n"


def _opening(version: DatasetVersion) -> str:
    kind = (
        "preference pairs"
        if version.preference
        else "answers with what people thought of them (unpaired preferences)"
        if version.unpaired
        else "conversations"
    )
    sentences = [
        f"{version.rows_kept:,} {kind} of {version.rows_read:,} rows read, "
        f"made on {version.created_at:%d %B %Y} (SHA-256 of the content `{version.content_sha256}`)."
    ]
    if version.parents:
        sentences.append(f"It grew from {', '.join(f'`{code(p)}`' for p in version.parents)}.")
    if version.system_prompt:
        sentences.append(
            "A conversation that has no system turn of its own begins with this one:\n\n"
            f"{fenced(version.system_prompt)}"
        )
    return " ".join(sentences)


def _sources(version: DatasetVersion) -> str:
    settings: Sequence[Mapping[str, object]] = version.config.get("sources", ())
    licences = {str(s["path"]): s.get("license") for s in settings}
    rows = [
        [
            f"`{code(s.path)}`",
            f"{s.rows:,}",
            s.shape,
            inline(str(licences.get(s.path) or "not stated")),
            f"`{s.sha256}`",
        ]
        for s in version.sources
    ]
    return table(["file", "rows", "read as", "licence", "sha256"], rows)


def _dropped(version: DatasetVersion) -> str:
    if not version.dropped:
        return "No row was left out."
    rows = ([*cells, meaning(reason)] for reason, cells in _counted(version.dropped))
    return table(["reason", "rows", "meaning"], rows)


def _counted(counts: Mapping[str, int]) -> Iterable[tuple[str, list[str]]]:
    """Yield each name with its cells in a table, the most frequent first."""
    for name, n in sorted(counts.items(), key=lambda item: (-item[1], item[0])):
        yield name, [f"`{code(name)}`", f"{n:,}"]


def _changed(version: DatasetVersion) -> str:
    return f"{_cleaned(version)}\n\n{_edited(version)}"


def _cleaned(version: DatasetVersion) -> str:
    if not version.cleaned:
        if version.masked:
            return "Personal data was masked; see below."
        return "Cleaning changed none: prompts and answers are as the files have them."
    rows = [
        [
            inline(c.kind),
            f"{c.prompts:,}",
            f"{c.answers:,}",
            f"`{code(c.example)}`, row {c.row:,} of `{code(c.source)}`",
        ]
        for c in version.cleaned
    ]
    note = "What cleaning did, in rows that were kept and in rows that were left out:"
    return f"{note}\n\n{table(['change', 'prompts', 'answers', 'first one'], rows)}"


def _edited(version: DatasetVersion) -> str:
    if not version.changed:
        return "No text was replaced by an edit."
    listed = table(["reason of the edit", "texts"], (cells for _, cells in _counted(version.changed)))
    return f"{listed}\n\nEach is listed with its text before and after in `changed.parquet`."


def _masked(version: DatasetVersion) -> str:
    if version.masked:
        return table(["type", "spans"], (cells for _, cells in _counted(version.masked)))
    clean = version.config.get("clean", {})
    if isinstance(clean, Mapping) and not clean.get("mask_pii", True):
        return "Personal data was not looked for: the recipe switches masking off."
    return "None was found."


def _splits(version: DatasetVersion) -> str:
    whole = sum(version.splits.values())
    rows = [[name, count(n), percent_of(n, whole)] for name, n in version.splits.items()]
    note = "Rows that resemble each other share a split, and no held-out row is ever trained on."
    return f"{table(['split', 'rows', 'share'], rows)}\n\n{note}"


def _labels(version: DatasetVersion) -> str:
    if not version.labels:
        return "The answers are open text."
    shown = listed([f"`{code(label)}`" for label in version.labels], _SHOWN_LABELS)
    return f"{len(version.labels):,} classes: {shown}."


def _again(version: DatasetVersion) -> str:
    settings = yaml.safe_dump(
        {"data": current_settings(version.config)}, sort_keys=False, allow_unicode=True, width=100
    )
    return (
        "The same files and settings give the same rows and the same id on every machine. With these "
        f"settings in a recipe, and its files beside it:\n\n{fenced(settings, 'yaml')}\n\n"
        f"{fenced('tunery data run RECIPE', 'sh')}"
    )
