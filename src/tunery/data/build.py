"""Build: from a recipe's data settings to a stored dataset version."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from datetime import date
from pathlib import Path

from tunery.core.dataset import DatasetVersion, SourceFile
from tunery.core.engine import Tokenizer
from tunery.core.errors import ConfigError
from tunery.core.example import Message, Role
from tunery.core.figures import listed_counts
from tunery.core.ids import artifact_id, canonical_json, sha256_text
from tunery.core.progress import Progress, Silent
from tunery.core.splits import SPLITS
from tunery.data.config import DataConfig
from tunery.data.curate import curate
from tunery.data.decisions import Curated
from tunery.data.edits.sets import EditSet, load_edits, write_changed
from tunery.data.readers.source import Source, expand_sources, locate
from tunery.data.rows.changes import in_words
from tunery.data.select.scores import read_quality
from tunery.data.select.stage import SelectionInputs
from tunery.data.version.card import CARD_FILE, data_card
from tunery.data.version.write import write_version
from tunery.store.left_overs import scratch_file
from tunery.store.workspace import Workspace
from tunery.text.embeddings import Encoder

STAGE_VERSION = 4
"""Raise it when equal files and settings would give other rows than before."""

VERSION_FILE = "version.json"

_IN_MANIFEST = {"name", "rows_read", "rows_kept", "dropped", "masked", "splits", "sources"}

_ANY_DAY = date(2000, 1, 1)
_ORDERS = ("ua", "sua", "uaua", "suaua", "aua", "saua", "uua", "suua", "uaa", "uauta", "uata", "utua")

NOT_IN_IDENTITY = {"engine"}
"""Settings that change no row: where the work is done."""


def build_dataset(  # noqa: PLR0913 - what to read, where to keep it, how to measure it
    config: DataConfig,
    workspace: Workspace,
    *,
    name: str,
    base_dir: Path,
    tokenizer: Tokenizer | None = None,
    max_tokens: int | None = None,
    encoder: Callable[[], Encoder] | None = None,
    progress: Progress | None = None,
) -> DatasetVersion:
    """Read, clean, deduplicate and split the sources, and store the result once.

    The id is a hash of the files' content and the settings: where a version of that id is already stored, it
    is returned and nothing is read but the files' bytes.

    Args:
        config: What to read and how to treat it.
        workspace: Where the version is kept.
        name: The recipe's name, shown in lists.
        base_dir: Folder that relative source paths start from.
        tokenizer: Of the base; without one no row is dropped for its length or its turns.
        max_tokens: Longest example that training takes; ``config.max_tokens`` may only lower it [tokens].
        encoder: Loads a sentence encoder, for rows that are selected by meaning.
        progress: Where steps are reported to.

    Returns:
        The stored version; its rows are at ``workspace.artifacts.path("datasets", version.id)``.

    Raises:
        ConfigError: A file or its rows are unusable; says which and why. Nothing is written then.
        NotFoundError: Rows are selected by scores that are not there.
    """
    progress = progress or Silent()
    config = _placed(expand_sources(config, base_dir), base_dir)
    sources = _locate_all(config, base_dir)
    limit = min((n for n in (config.max_tokens, max_tokens) if n is not None), default=None)
    changes = load_edits(config.edits, workspace, base_dir)
    # Rows must not go by the day on which they are looked at.
    tokenizer = tokenizer and tokenizer.on_day(_ANY_DAY)
    identity = _identity(config, sources, changes, tokenizer, limit)
    stored = _find(workspace, identity, progress)
    if stored is not None:
        mapping = config.clean.pii_mapping
        if mapping is not None and not Path(mapping).is_file():
            progress.event(f"The version is there already: nothing is written to {mapping}", level="warn")
        progress.event(f"Dataset {identity} is already there", data={"dataset_version": identity})
        return stored
    scores = None if config.select is None else config.select.scores
    quality = [] if scores is None else read_quality(workspace.artifacts.path("quality", scores))
    with curate(
        sources,
        config,
        edits=changes,
        tokenizer=tokenizer,
        max_tokens=limit,
        selection=SelectionInputs(quality, encoder),
        scratch=scratch_file(workspace.root),
        progress=progress,
    ) as curated:
        if limit is not None and tokenizer is None:
            curated.warnings.append(f"rows over {limit} tokens were not looked for: no tokenizer was given")
        version = _store(workspace, identity, name, sources, changes, curated)
    progress.event(_summary(version), data={"dataset_version": version.id})
    return version


def _placed(config: DataConfig, base_dir: Path) -> DataConfig:
    """Return the settings with the mapping's path from the recipe's folder, where sources start from too."""
    mapping = config.clean.pii_mapping
    if mapping is None:
        return config
    clean = config.clean.model_copy(update={"pii_mapping": str(base_dir / mapping)})
    return config.model_copy(update={"clean": clean})


def _locate_all(config: DataConfig, base_dir: Path) -> list[Source]:
    found, problems, hint = [], [], None
    for settings in config.sources:
        try:
            found.append(locate(settings, base_dir))
        except ConfigError as error:
            problems.append(error.message)
            hint = error.hint
    if problems:
        raise ConfigError.of_problems("data.sources", problems, hint=hint)
    return found


def _identity(
    config: DataConfig,
    sources: Sequence[Source],
    changes: Sequence[EditSet],
    tokenizer: Tokenizer | None,
    limit: int | None,
) -> str:
    """Name the version after what makes it. Where a file lies does not matter, what is in it does."""
    settings = config.model_dump(mode="json", exclude=NOT_IN_IDENTITY)
    settings["max_tokens"] = limit if tokenizer is not None else None
    settings["edits"] = [e.key for e in changes]
    # A filter that is new since a version was made, and that nobody set, changes nothing of it.
    settings["filters"] = config.filters.model_dump(mode="json", exclude_defaults=True)
    del settings["clean"]["pii_mapping"]  # what is remembered elsewhere changes no row
    for entry, source in zip(settings["sources"], sources, strict=True):
        del entry["path"]
        entry["format"] = source.format
    inputs = {f"source{i}": s.sha256 for i, s in enumerate(sources)}
    if tokenizer is not None and limit is not None:
        inputs["tokenizer"] = tokenizer_fingerprint(tokenizer)
    if tokenizer is not None and (refused := _refused_orders(tokenizer)):
        inputs["template"] = sha256_text(canonical_json(refused))
    return artifact_id("ds", stage="data", version=STAGE_VERSION, config=settings, inputs=inputs)


def tokenizer_fingerprint(tokenizer: Tokenizer) -> str:
    """Return a hash that tells tokenizers apart by what they do to a text full of hard cases."""
    probe = "Hello, wörld! 1234567890 ¿Qué? 你好 नमस्ते 🙂 def f(x):\n\treturn x**2  # naïve"
    rendered = tokenizer.render_prompt([Message(role="user", content=probe)])
    return sha256_text(canonical_json([list(rendered), list(tokenizer.encode(probe))]))


def _refused_orders(tokenizer: Tokenizer) -> list[str]:
    """Return the usual orders of turns that a template does not take, by the first letters of roles.

    Most templates take all: then a version does not depend on the base.
    """
    roles: dict[str, Role] = {"s": "system", "u": "user", "a": "assistant", "t": "tool"}
    turns = {order: [Message(role=roles[letter], content="a") for letter in order] for order in _ORDERS}
    return [order for order, messages in turns.items() if tokenizer.refusal(messages) is not None]


def _find(workspace: Workspace, identity: str, progress: Progress) -> DatasetVersion | None:
    """Return the stored version; one whose record was lost between the two writes gets it back.

    None where there is none, and where its files are damaged: building it again replaces them.
    """
    folder = workspace.artifacts.whole("datasets", identity, progress)
    if folder is None:
        return None
    record = workspace.datasets.find(identity)
    if record is None:
        record = DatasetVersion.model_validate_json((folder / VERSION_FILE).read_text(encoding="utf-8"))
        workspace.datasets.add(record)
    return record


def _store(
    workspace: Workspace,
    identity: str,
    name: str,
    sources: Sequence[Source],
    changes: Sequence[EditSet],
    curated: Curated,
) -> DatasetVersion:
    counts = Counter(SPLITS[i] for i in curated.splits.tolist())
    version = DatasetVersion(
        id=identity,
        name=name,
        content_sha256="",
        created_at=workspace.clock.now(),
        sources=tuple(
            SourceFile(path=s.name, sha256=s.sha256, rows=c.rows, shape=c.shape)
            for s, c in zip(sources, curated.counts, strict=True)
        ),
        parents=tuple(dict.fromkeys(e.dataset for e in changes if e.dataset is not None)),
        config=curated.config.model_dump(mode="json"),
        rows_read=sum(c.rows for c in curated.counts),
        rows_kept=len(curated.kept),
        dropped=dict(sorted(curated.dropped_counts().items())),
        changed=dict(sorted(Counter(c.reason for c in curated.changed).items())),
        cleaned=tuple(curated.cleaned),
        masked=dict(sorted(curated.masked.items())),
        splits={split: counts[split] for split in SPLITS},
        labels=curated.labels,
        system_prompt=curated.config.system_prompt,
        preference=curated.counts[0].shape == "preference",
        unpaired=bool(len(curated.rows.column_at("desirable", curated.kept).drop_null())),
        warnings=tuple(curated.warnings),
    )
    about = version.model_dump(mode="json", include=_IN_MANIFEST)
    with workspace.artifacts.create("datasets", version.id, about) as folder:
        version = version.with_(content_sha256=write_version(curated, folder))
        if curated.changed:
            write_changed(curated.changed, folder)
        (folder / CARD_FILE).write_text(data_card(version), encoding="utf-8")
        (folder / VERSION_FILE).write_text(version.model_dump_json(indent=1), encoding="utf-8")
    workspace.datasets.add(version)
    return version


def _summary(version: DatasetVersion) -> str:
    changes = [*in_words(version.cleaned)]
    if version.changed:
        changes.append(f"edits: {listed_counts(version.changed)}")
    return (
        f"Dataset {version.id}: {version.rows_read:,} rows read, {version.rows_kept:,} kept "
        f"({listed_counts(version.splits)}); dropped: {listed_counts(version.dropped) or 'none'}; "
        f"texts changed: {'; '.join(changes) or 'none'}"
    )
