"""Settings of a feedback export: what becomes a row, and what counts as held out."""

from __future__ import annotations

from pydantic import Field

from tunery.core.config import Settings


class ExportConfig(Settings):
    """Which reviewed feedback becomes rows of the next dataset version."""

    include_liked: bool = False
    """Also export answers with an accepted thumb up as examples. They teach the model what it says already,
    mistakes that a hurried reader liked included."""
    ratings: bool = False
    """Also export answers with an accepted thumb, up or down, as unpaired preferences, from which kto learns:
    a thumb down says what is to become less likely, even where nobody wrote the right answer."""
    corrections_as_preferences: bool = False
    """Also export each accepted correction as a pair: the correction preferred over what was served."""
    near_similarity: float = Field(0.8, gt=0, le=1)
    """Share of character 4-grams (Jaccard) from which a prompt counts as a held-out one reworded; 1 leaves
    only equal ones. Lower is safer: a row skipped too many costs one example, a leaked one the honesty of
    every later evaluation."""
