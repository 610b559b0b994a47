"""Cards on sheets for spreadsheets, one a person, and what comes back on them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import NamedTuple

from tunery.core.errors import ConfigError, ResourceError
from tunery.review.cards import Card, Choice, Judgement, ReviewPlan
from tunery.review.config import HIGHEST, LOWEST
from tunery.store.spreadsheet import SheetRow, read_sheet, write_sheet
from tunery.store.whole_file import write_json_lines

KEY = "key.json"
"""Who wrote which answer; people who review must not see it."""
_SHOWN = 30
_CHOICES: dict[str, Choice] = {"1": "1", "2": "2", "tie": "tie", "0": "tie", "=": "tie"}


class Sheets(NamedTuple):
    """A review as it came back."""

    plan: ReviewPlan
    judgements: list[Judgement]


def write_sheets(plan: ReviewPlan, folder: Path) -> list[Path]:
    """Write one sheet for each person, and the key.

    Raises:
        ConfigError: The folder holds another review.
        ResourceError: It cannot be written.
    """
    if (folder / KEY).exists() and read_plan(folder).id != plan.id:
        raise ConfigError(f"{folder} holds another review", hint="choose another folder: --out FOLDER")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_json_lines(folder / KEY, [plan.model_dump(mode="json")])
        people = range(1, plan.config.reviewers + 1)
        return [_write(plan, plan.order(person), sheet_of(folder, person)) for person in people]
    except OSError as error:
        raise ResourceError(f"{folder}: cannot be written: {error.strerror}") from None


def write_third(plan: ReviewPlan, folder: Path, cards: Collection[str]) -> Path:
    """Write the sheet of one more person, with these cards alone."""
    person = plan.config.reviewers + 1
    return _write(plan, [c for c in plan.order(person) if c.id in cards], sheet_of(folder, person))


def read_plan(folder: Path) -> ReviewPlan:
    """Read a review's key.

    Raises:
        ConfigError: The folder holds none, or it is damaged.
    """
    path = folder / KEY
    try:
        return ReviewPlan.model_validate_json(path.read_text(encoding="utf-8"))
    except OSError as error:
        hint = "tunery evaluate review export RUN --out FOLDER"
        raise ConfigError(f"{path}: {error.strerror}", hint=hint) from None
    except ValueError:
        raise ConfigError(f"{path} is damaged: it is no review's key") from None


def read_sheets(folder: Path) -> Sheets:
    """Read what people wrote on the sheets of a review.

    Raises:
        ConfigError: A sheet is missing, or holds a card that is missing, given twice, unknown, or without a
            score from 1 to 5; lists every row at fault.
    """
    plan = read_plan(folder)
    people = [*range(1, plan.config.reviewers + 1)]
    if (extra := sheet_of(folder, len(people) + 1)).exists():
        people.append(len(people) + 1)
    found: list[Judgement] = []
    problems: list[str] = []
    for person in people:
        path = sheet_of(folder, person)
        wanted = {card.id for card in plan.cards} if path != extra else None
        found += _read(plan, person, path, wanted, problems)
    if problems:
        hint = "fill the sheets in, then type the same command again"
        raise ConfigError.of_problems(str(folder), problems, limit=_SHOWN, hint=hint)
    return Sheets(plan, found)


def sheet_of(folder: Path, person: int) -> Path:
    """Return the sheet of one person."""
    return folder / f"reviewer-{person}.csv"


def _write(plan: ReviewPlan, cards: Sequence[Card], path: Path) -> Path:
    if path.exists():
        return path  # somebody may be at work on it
    answers = ["answer 1", "answer 2"] if plan.config.pairwise else ["answer"]
    header = ["item", "prompt", *answers, *_asked(plan), "comment", "correction"]
    rows = ([c.id, _prompt(c), *c.answers, *[""] * (len(_asked(plan)) + 2)] for c in cards)
    write_sheet(path, header, rows)
    return path


def _asked(plan: ReviewPlan) -> list[str]:
    return ["preferred"] if plan.config.pairwise else list(plan.config.criteria)


def _prompt(card: Card) -> str:
    if len(card.prompt) == 1:
        return card.prompt[0].content
    return "\n\n".join(f"{turn.role}: {turn.content}" for turn in card.prompt)


def _read(
    plan: ReviewPlan, person: int, path: Path, wanted: Collection[str] | None, problems: list[str]
) -> list[Judgement]:
    known = {card.id for card in plan.cards}
    first_seen: dict[str, int] = {}
    found = []
    for row in read_sheet(path, ["item", *_asked(plan)]):
        card = row.cells["item"].strip()
        where = f"{path.name} row {row.number}"
        if card not in known:
            problems.append(f"{where}: item {card!r:.40} is not of this review")
        elif card in first_seen:
            problems.append(f"{where}: item {card} was already judged on row {first_seen[card]}")
        else:
            first_seen[card] = row.number
            judgement = _judgement(plan, person, card, row, where, problems)
            found += [judgement] if judgement else []
    for card in sorted(set(wanted or ()) - first_seen.keys()):
        problems.append(f"{path.name}: item {card} is missing")
    return found


def _judgement(
    plan: ReviewPlan, person: int, card: str, row: SheetRow, where: str, problems: list[str]
) -> Judgement | None:
    scores, preferred, before = {}, None, len(problems)
    for name in _asked(plan):
        said = row.cells[name].strip()
        if not said:
            problems.append(f"{where}: {name} is missing")
        elif plan.config.pairwise:
            preferred = _CHOICES.get(said.casefold())
            if preferred is None:
                problems.append(f"{where}: {name} is {said!r:.40}, not 1, 2 or tie")
        elif (score := _score(said)) is None:
            problems.append(f"{where}: {name} is {said!r:.40}, not a whole number from {LOWEST} to {HIGHEST}")
        else:
            scores[name] = score
    if len(problems) > before:
        return None
    comment, correction = (row.cells.get(name, "") for name in ("comment", "correction"))
    return Judgement(person, card, scores, preferred, comment, correction)


def _score(said: str) -> int | None:
    """Return a score; spreadsheets may write 4 as ``4.0`` or ``4,0``."""
    whole, _, rest = said.replace(",", ".").partition(".")
    if not (whole.isascii() and whole.isdigit()) or rest.strip("0"):
        return None
    return int(whole) if LOWEST <= int(whole) <= HIGHEST else None
