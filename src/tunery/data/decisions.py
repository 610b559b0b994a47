"""Curated: rows on their way through curation, and what has been decided about each."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tunery.core.columns import Columns
from tunery.core.dataset import Shape, TextChange
from tunery.core.example import Drop, Dropped, numbered, short_id
from tunery.core.finding import Changed
from tunery.core.splits import SPLITS
from tunery.data.config import DataConfig, SourceConfig
from tunery.data.rows.table import RowTable
from tunery.store.dataset_files import dialogues
from tunery.text.minhash import Integers, Pairs, no_pairs
from tunery.text.pii.types import PiiType


class SourceCount(NamedTuple):
    """What one source gave."""

    rows: int
    """Rows read [count]."""
    shape: Shape


@dataclass(slots=True)
class Curated:
    """The outcome of curation; rows lie in a file that is gone when its block ends."""

    rows: RowTable
    config: DataConfig
    counts: list[SourceCount]
    """Beside ``config.sources``."""
    unread: list[Dropped]
    """Rows dropped before they became part of ``rows``."""
    masked: Counter[PiiType] = field(default_factory=Counter)
    """Type of personal data to spans masked, in kept and dropped rows alike [count]."""
    cleaned: list[TextChange] = field(default_factory=list)
    """What cleaning did to texts, in kept and dropped rows alike."""
    changed: list[Changed] = field(default_factory=list)
    """Texts that edits replaced."""
    warnings: list[str] = field(default_factory=list)
    drops: dict[int, Drop] = field(default_factory=dict)
    """Position in ``rows`` to why that row goes, filters aside: those stand in ``rows``."""
    kept: Integers = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    """Positions of the rows that stay, ascending."""
    splits: npt.NDArray[np.int8] = field(default_factory=lambda: np.empty(0, dtype=np.int8))
    """Index into :data:`tunery.core.example.SPLITS`, beside ``kept``."""
    groups: Integers = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    """Position of the first row of each row's group, beside ``kept``."""
    apart: Pairs = field(default_factory=no_pairs)
    """Pairs of positions that must not end up in different splits although their groups are not one."""
    labels: tuple[str, ...] | None = None
    answers: list[str] = field(default_factory=list)
    """All different answers, where they are few."""
    answer_codes: Integers = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    """Index into ``answers``, beside ``rows``."""

    def drop(self, drops: Mapping[int, Drop]) -> None:
        """Take out rows by position."""
        self.drops.update(drops)
        gone = np.isin(self.kept, np.fromiter(drops, dtype=np.int64, count=len(drops)))
        for name in ("splits", "groups"):
            column = getattr(self, name)
            if len(column):
                setattr(self, name, column[~gone])
        self.kept = self.kept[~gone]

    @property
    def judged(self) -> bool:
        """Whether rows say which answers people liked: pairs, or single answers."""
        return any(len(self.rows.column(name).drop_null()) for name in ("rejected", "desirable"))

    def where(self, position: int) -> str:
        """Return where a row came from, for a message."""
        return f"row {self.row_number(position)} of {self.source(position).path}"

    def row_number(self, position: int) -> int:
        """Return a row's number in its file."""
        return int(self.rows.numbers("row")[position])

    def source(self, position: int) -> SourceConfig:
        """Return the source that a row came from."""
        return self.config.sources[int(self.rows.sources[position])]

    def row_labels(self) -> list[str | None]:
        """Return the class of each kept row, None throughout where answers are open text."""
        if self.labels is None:
            return [None] * len(self.kept)
        return [self.answers[c] for c in self.answer_codes[self.kept].tolist()]

    def columns(self) -> Columns:
        """Return the kept rows side by side."""
        names = ("messages", "rejected", "desirable", "row")
        taken = {name: self.rows.column_at(name, self.kept) for name in names}
        texts = dialogues(taken["messages"])
        return Columns(
            ids=self.ids(),
            prompts=texts.prompts,
            answers=texts.answers,
            rejected=taken["rejected"].to_pylist(),
            labels=self.row_labels(),
            splits=[SPLITS[s] for s in self.splits.tolist()],
            groups=[str(group) for group in self.groups.tolist()],
            sources=[self.config.sources[s].path for s in self.rows.sources[self.kept].tolist()],
            rows=taken["row"].to_pylist(),
            desirable=taken["desirable"].to_pylist() if len(taken["desirable"].drop_null()) else None,
        )

    def metadata(self) -> list[dict[str, Any]]:
        """Return the mapped extra columns of each kept row."""
        return [json.loads(text) for text in self.rows.column_at("metadata", self.kept).to_pylist()]

    def ids(self) -> list[str]:
        """Return the id of each kept row: of its content, with a number where the content occurred before."""
        hashes = self.rows.column_at("sha256", self.kept).to_pylist()
        return list(numbered(short_id(sha256.hex()) for sha256 in hashes))

    def dropped_counts(self) -> Counter[str]:
        """Return how many rows went for each reason."""
        counts = Counter(d.reason for d in self.unread)
        counts.update(d.reason for d in self.drops.values())
        filtered = self.rows.column("reason")
        # A row drawn out of a limited source went before the filters looked at it.
        left = np.ones(len(self.rows), dtype=bool)
        left[np.fromiter(self.drops, dtype=np.int64, count=len(self.drops))] = False
        counts.update(filtered.filter(pa.array(left)).drop_null().to_pylist())
        return counts
