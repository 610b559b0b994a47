"""Human review of stored or foreign answers: sheets out, opinions back, and what they are used for."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import NamedTuple

from tunery.core.errors import ConfigError, NotFoundError
from tunery.core.example import Message
from tunery.core.figures import is_prompting
from tunery.core.rollout import Feedback, RequestRecord
from tunery.core.run import TUNED, Run
from tunery.evaluate.comparison import best_of
from tunery.evaluate.pairing import Row
from tunery.evaluate.predictions import read_prediction_rows
from tunery.feedback.config import ExportConfig
from tunery.feedback.export import Export, export_given
from tunery.gate.gate import Ratings
from tunery.gate.rules import HUMAN
from tunery.pipeline.stages.evaluate import predictions_of
from tunery.pipeline.stages.judge import questions_of
from tunery.review.cards import Judgement, ReviewPlan, plan_review
from tunery.review.check import keep_labels
from tunery.review.config import ReviewConfig
from tunery.review.outcome import HumanReview, conclude, disagreements, labels_of_review
from tunery.review.rows import prompts_in
from tunery.review.sheets import read_plan, read_sheets, write_sheets, write_third
from tunery.store.whole_file import write_json_lines
from tunery.store.workspace import Workspace

REVIEW = "review.json"
FEEDBACK = "feedback"
"""Folder within a review's that holds the rows it gives."""
_GOOD, _BAD = 4, 2
"""Mean rating from which an answer is liked, and up to which it is not."""


class ReviewFiles(NamedTuple):
    """Sheets that wait for people."""

    plan: ReviewPlan
    sheets: list[Path]


def export_review(
    workspace: Workspace, sources: Sequence[str], config: ReviewConfig, folder: Path
) -> ReviewFiles:
    """Write the sheets of a blind review.

    Args:
        workspace: Where runs and evaluations are kept.
        sources: A run, whose tuned model and best baseline are judged; else evaluations and files of answers,
            each a system.
        config: What is asked of people.
        folder: Where the sheets go.

    Raises:
        NotFoundError: There is no such run, evaluation or file.
        ConfigError: The answers do not fit together, or the folder holds another review.
    """
    evaluations: dict[str, str | None] = {}
    answers: dict[str, Sequence[Row]] = {}
    prompts: dict[str, tuple[Message, ...]] = {}
    for name, identity in _systems(workspace, sources).items():
        if identity is None:
            answers[name] = read_prediction_rows(Path(name))
            prompts |= prompts_in(Path(name))
        else:
            answers[name] = predictions_of(workspace, identity)
        evaluations[name] = identity
    wanted = {row.id for rows in answers.values() for row in rows} - prompts.keys()
    prompts |= questions_of(workspace, wanted)
    plan = plan_review(answers, prompts, config, evaluations=evaluations)
    return ReviewFiles(plan, write_sheets(plan, folder))


def export_third(folder: Path) -> ReviewFiles:
    """Write the sheet of a third person, with what the others disagree on.

    Raises:
        ConfigError: The sheets are not filled in, or nobody disagrees.
    """
    plan, judgements = read_sheets(folder)
    apart = disagreements(plan, judgements)
    if not apart:
        raise ConfigError(f"{folder}: there is no disagreement that a third person could decide")
    return ReviewFiles(plan, [write_third(plan, folder, apart)])


class Reviewed(NamedTuple):
    """A review that was read back."""

    review: HumanReview
    feedback: Export
    """Rows that its answers give, none of which is held out."""


def import_review(workspace: Workspace, folder: Path) -> Reviewed:
    """Read a review's sheets, keep what people thought, and write the rows that may teach the next version.

    Raises:
        ConfigError: Lists every row of a sheet that cannot be used.
    """
    plan, judgements = read_sheets(folder)
    review = conclude(plan, judgements, now=workspace.clock.now())
    labels = labels_of_review(plan, judgements)
    about = {"kind": HUMAN, "systems": dict(review.systems), "created_at": review.created_at.isoformat()}
    with workspace.artifacts.create("reviews", review.id, about) as partial:
        write_json_lines(partial / REVIEW, [review.model_dump(mode="json")])
        write_json_lines(partial / "judgements.jsonl", [one._asdict() for one in judgements])
        write_json_lines(partial / "key.json", [read_plan(folder).model_dump(mode="json")])
        if labels:
            keep_labels(partial, list(labels.values()))
    candidates = _candidates(workspace, plan, judgements, review)
    rows = export_given(workspace, folder / FEEDBACK, candidates, ExportConfig(ratings=True))
    return Reviewed(review, rows)


def review_of(workspace: Workspace, evaluation: str) -> HumanReview | None:
    """Return the newest review of an evaluation's answers, None where people have judged none."""
    artifacts = workspace.artifacts
    found = [
        (str(about["created_at"]), identity)
        for identity in artifacts.ids("reviews")
        if (about := artifacts.about("reviews", identity)).get("kind") == HUMAN
        and evaluation in about["systems"].values()
    ]
    if not found:
        return None
    text = (artifacts.path("reviews", max(found)[1]) / REVIEW).read_text(encoding="utf-8")
    return HumanReview.model_validate_json(text)


def ratings_of(workspace: Workspace, evaluation: str) -> Ratings:
    """Return what a gate's rules on human ratings look at; nothing where people have judged nothing."""
    review = review_of(workspace, evaluation)
    if review is None:
        return Ratings()
    system = next(name for name, identity in review.systems.items() if identity == evaluation)
    return Ratings(
        review.metrics.get(system, {}), {name: alpha.value for name, alpha in review.agreement.items()}
    )


def was_reviewed_since(workspace: Workspace, run: Run) -> bool:
    """Say whether people judged the tuned model's answers after a run's gate refused for want of them."""
    gate = workspace.gates.find(run.gate_id or "")
    if gate is None or gate.passed or not any(outcome.rule.get("on") == HUMAN for outcome in gate.rules):
        return False
    review = review_of(workspace, run.evaluations.get(TUNED, ""))
    return review is not None and review.created_at > gate.created_at


def _systems(workspace: Workspace, sources: Sequence[str]) -> dict[str, str | None]:
    """Return the systems that sources name, each with its evaluation's id; None for a file."""
    found: dict[str, str | None] = {}
    for source in sources:
        run = workspace.runs.find(source)
        if run is not None:
            tuned = run.evaluations.get(TUNED)
            if tuned is None:
                raise ConfigError(f"{source} has not evaluated its tuned model yet", hint="tunery run RECIPE")
            known = [workspace.evaluations.find(i) for n, i in run.evaluations.items() if n != TUNED]
            prompted = [e for e in known if e is not None and is_prompting(e)]
            best = [best_of(prompted, prompted[0].main_metric)] if prompted else []
            found |= {evaluation.subject: evaluation.id for evaluation in best}
            found[TUNED] = tuned
        elif (evaluation := workspace.evaluations.find(source)) is not None:
            taken = evaluation.subject in found
            found[f"{evaluation.subject} ({source})" if taken else evaluation.subject] = source
        elif Path(source).exists():
            found[source] = None
        else:
            raise NotFoundError(
                f"{source!r:.160} is no run, no evaluation and no file", hint="tunery evaluate ls"
            )
    return found


def _candidates(
    workspace: Workspace, plan: ReviewPlan, judgements: Sequence[Judgement], review: HumanReview
) -> Iterator[tuple[Feedback, RequestRecord]]:
    """Yield what people said of each answer as feedback on it, corrections first."""
    cards = {card.id: card for card in plan.cards}
    said: Mapping[str, list[Judgement]] = defaultdict(list)
    for one in judgements:
        said[one.card].append(one)

    def about(card: str, side: int) -> RequestRecord:
        known, shown = workspace.requests.find(cards[card].row), cards[card]
        if known is not None and known.completion == shown.answers[side]:
            return known
        system = shown.systems[side]
        model = plan.systems.get(system) or system
        return RequestRecord(
            id=shown.row,
            created_at=review.created_at,
            endpoint=system,
            model=model,
            subject=review.id,
            messages=shown.prompt,
            completion=shown.answers[side],
            status="ok",
        )

    def given(card: str, **what: object) -> Feedback:
        return Feedback.model_validate(
            {
                "id": f"fb-{review.id}-{card}",
                "request_id": cards[card].row,
                "author": review.id,
                "status": "accepted",
                "created_at": review.created_at,
                **what,
            }
        )

    for card, every in said.items():
        for one in every:
            if one.correction.strip():
                yield given(card, kind="correction", correction=one.correction), about(card, 0)
    for card, label in labels_of_review(plan, judgements).items():
        if label.preferred != "tie":
            better, worse = (0, 1) if label.preferred == "a" else (1, 0)
            texts = cards[card].answers
            pair = {"correction": texts[better], "rejected": texts[worse]}
            yield given(card, kind="preference", **pair), about(card, better)
    for card, every in said.items():
        scores = [score for one in every for score in one.scores.values()]
        if scores and not _BAD < mean(scores) < _GOOD:
            yield given(card, kind="rating", rating=1 if mean(scores) >= _GOOD else -1), about(card, 0)
