"""Metrics of a whole set of rows that are no mean of rows: one file per metric, found by its file name.

A corpus metric is a statistic of sums over rows: of matched and given n-grams for BLEU, of hits and answers
of each class for macro-F1, of log-likelihoods and tokens for perplexity. A module here has a ``DECLARATION``
and a function ``corpus(sides, options)`` that returns a :class:`Corpus`. Interval, paired test, gate, report
and reference know it by these alone; its columns are computed from stored answers, so that any two files of
answers can be compared by it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from tunery.core.plugins import load_plugin, plugin_names
from tunery.evaluate.scorers import Declaration, ScorerOptions

if TYPE_CHECKING:
    from tunery.evaluate.pairing import Row
    from tunery.statistics.bootstrap import Floats, Statistic

SHARED = ("label_sets", "ngrams", "quantile")
"""Serve the others."""


@dataclass(frozen=True, slots=True)
class Corpus:
    """A metric as what is summed over rows and what is made of the sums."""

    columns: Callable[[Sequence[Row]], Floats]
    """Rows to what each adds, shape ``(n_rows, n_columns)``."""
    of_sums: Statistic
    """Sums, shape ``(k, n_columns)``, to the metric's values, shape ``(k,)``."""


def corpus_names() -> tuple[str, ...]:
    """Return the names of the corpus metrics that exist, sorted."""
    return plugin_names(__name__)


def make_corpus(name: str, sides: Sequence[Sequence[Row]], options: ScorerOptions | None = None) -> Corpus:
    """Return the metric called ``name`` for the rows at hand.

    Args:
        name: Of the metric.
        sides: The rows of every subject that it is to be computed for, so that all are summed alike.
        options: What the task says.

    Raises:
        NotFoundError: There is no such metric; says the nearest.
    """
    loaded = load_plugin(__name__, "corpus metric", name)
    return cast(Corpus, loaded.corpus(sides, options or ScorerOptions()))


def declaration_of_corpus(name: str) -> Declaration:
    """Return what the corpus metric called ``name`` says of itself.

    Raises:
        NotFoundError: There is no such metric; says the nearest.
    """
    return cast(Declaration, load_plugin(__name__, "corpus metric", name).DECLARATION)


def signatures(names: Iterable[str], options: ScorerOptions) -> dict[str, str]:
    """Return what tells two figures of a metric apart, where it has such words."""
    modules = {n: load_plugin(__name__, "corpus metric", n) for n in names if n in corpus_names()}
    return {n: str(m.signature(options)) for n, m in modules.items() if hasattr(m, "signature")}


def texts_of(rows: Sequence[Row]) -> tuple[list[str], list[str]]:
    """Return the answers and the references of rows, empty where a row has none."""
    return [row.prediction or "" for row in rows], [row.reference or "" for row in rows]
