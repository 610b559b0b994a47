"""Settings of inspection."""

from __future__ import annotations

from pydantic import Field, field_validator

from tunery.core.config import NonEmpty, Settings
from tunery.core.errors import did_you_mean
from tunery.core.quality import QualityId


class InspectConfig(Settings):
    """What the detectors look for. None of it changes a dataset version."""

    ignore: tuple[NonEmpty, ...] = ()
    """Kinds of findings that are not reported, such as ``short_prompt``; where a detector has no other
    kind, it does not run."""
    references: tuple[NonEmpty, ...] = ()
    """Files of benchmark texts that training must not have seen, in any format that a source may have; the
    files of ``evaluate.suites`` are always looked at."""
    scores: QualityId | None = None
    """Scores of the rows as ``tunery data score`` printed them (``quality-…``): rows that the base or a judge
    holds for wrong are reported."""
    min_input_chars: int = Field(default=10, ge=0)
    """A shorter prompt is reported [characters]."""
    max_input_chars: int = Field(default=1000, ge=1)
    """A longer prompt is reported [characters]."""
    min_output_chars: int = Field(default=5, ge=0)
    """A shorter answer is reported, except numbers, yes and no, and classes of a closed set [characters]."""
    min_unique_words: float = Field(default=0.3, ge=0, le=1)
    """An answer with a smaller share of different words is reported; beyond 300 words the bar falls."""
    unique_words_from: int = Field(default=10, ge=1)
    """Shortest answer whose words are counted [words]."""
    majority: float = Field(default=0.9, gt=0.5, le=1)
    """Share of the answers that must agree on a style, or of the texts on a language, before the others are
    reported."""
    near_threshold: float = Field(default=0.9, ge=0.5, le=1)
    """Jaccard similarity of prompts from which they are near-duplicates, or contradict each other."""
    semantic_threshold: float = Field(default=0.97, gt=0, le=1)
    """Cosine of the prompts' embeddings from which they say the same."""
    overlap_words: int = Field(default=13, ge=2)
    """Words in a row that a training text may not share with a held-out or a benchmark text [words]."""

    @field_validator("ignore")
    @classmethod
    def _known_kinds(cls, ignored: tuple[str, ...]) -> tuple[str, ...]:
        if not ignored:
            return ignored  # detectors take a while to import
        from tunery.inspect.detectors import finding_kinds

        known = sorted(finding_kinds())
        for name in ignored:
            if name not in known:
                raise ValueError(
                    f"no detector reports {name!r}{did_you_mean(name, known)} (there is: {', '.join(known)})"
                )
        return ignored
