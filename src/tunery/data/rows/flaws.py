"""Flaws of a file's rows, collected into one error."""

from __future__ import annotations

from tunery.core.errors import ConfigError
from tunery.data.rows.row import Flaw


class FlawList:
    """Collects flaws by row and turns them into one error; keeps the first ten, counts the rest."""

    SHOWN = 10

    def __init__(self, path: str) -> None:
        self._path = path
        self._lines: list[str] = []
        self._count = 0

    def add(self, row: int, flaws: tuple[Flaw, ...]) -> None:
        """Remember what is wrong with ``row``."""
        for flaw in flaws:
            self._count += 1
            if len(self._lines) < self.SHOWN:
                self._lines.append(f"row {row}, {flaw.field}: {flaw.value}; {flaw.fix}")

    def raise_if_any(self) -> None:
        """Raise :class:`ConfigError` with every remembered flaw."""
        if self._count:
            raise ConfigError.of_problems(self._path, self._lines, total=self._count)
