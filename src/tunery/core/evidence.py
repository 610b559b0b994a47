"""Evidence: what a verdict stands on, by hashes, as it was when the gate judged."""

from __future__ import annotations

from collections.abc import Mapping

from tunery.core.config import Record
from tunery.core.figures import subject_phrase


class Evidence(Record):
    """Hashes of everything behind one verdict; equal hashes mean equal bytes."""

    tunery: str
    """Version that judged."""
    recipe_sha256: str
    """Of the recipe as validated, every default filled in, as canonical JSON."""
    rules_sha256: str
    """Of the rules that were judged."""
    rules_sha256_before: str | None
    """Of the rules as they were when the run began; None where it began under an earlier version."""
    dataset: str
    """Dataset version."""
    dataset_sha256: str
    """Of its content."""
    base: str
    """Base model's name."""
    base_sha256: str
    adapter: str
    """Adapter id."""
    adapter_sha256: str
    """Of its weights."""
    gate: str
    """Gate result."""
    gate_sha256: str
    """Of its rules and their sentences."""
    evaluations: Mapping[str, str]
    """Subject to evaluation id."""
    answers_sha256: Mapping[str, str]
    """Subject to the hash of the file of its answers."""

    @property
    def are_rules_unchanged(self) -> bool:
        """Whether the rules judged are those that were fixed before training, as far as that is known."""
        return self.rules_sha256_before in (None, self.rules_sha256)

    def facts(self) -> list[tuple[str, str, str]]:
        """Return what it stands on, as readers find it: what, its name, its hash."""
        fixed = "" if self.rules_sha256_before is None else ", fixed before training"
        changed = "" if self.are_rules_unchanged else f" (before training: {self.rules_sha256_before})"
        return [
            ("recipe", "", self.recipe_sha256),
            (
                f"rules{fixed}" if not changed else "rules, changed since training began",
                "",
                self.rules_sha256 + changed,
            ),
            ("dataset version", self.dataset, self.dataset_sha256),
            ("base model", self.base, self.base_sha256),
            ("adapter", self.adapter, self.adapter_sha256),
            *(
                (f"answers of {subject_phrase(subject)}", identity, self.answers_sha256.get(subject, ""))
                for subject, identity in self.evaluations.items()
            ),
            ("gate result", self.gate, self.gate_sha256),
            ("tunery", self.tunery, ""),
        ]
