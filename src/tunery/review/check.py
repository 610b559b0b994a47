"""A judge's check: how far people agree with it, measured and kept before anything rests on it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, NamedTuple

from tunery.core.config import Record
from tunery.core.errors import ConfigError
from tunery.core.evaluation import Metric
from tunery.core.example import Message
from tunery.core.figures import number
from tunery.core.ids import artifact_id, canonical_json, sha256_text
from tunery.core.judging import NoAnswer
from tunery.core.statistics import wilson_interval
from tunery.evaluate.judges.config import UNJUDGED, JudgeConfig, JudgeKind
from tunery.evaluate.judges.judge import EndpointJudge, judge_key
from tunery.evaluate.judges.prompts import HIGHEST, LOWEST, rating_form, rating_turns, read_rating
from tunery.review.pairwise import Pair, Winner, judge_pairs, label_of, position_bias
from tunery.statistics.agreement import Agreement, ClassAgreement, by_class, cohen_kappa
from tunery.store.whole_file import write_json_lines
from tunery.store.workspace import Workspace

CHECK, LABELS = "check.json", "labels.jsonl"
_WINNERS: tuple[Winner, ...] = ("a", "b", "tie")
_SCORES = tuple(str(score) for score in range(LOWEST, HIGHEST + 1))


class LabelledPair(NamedTuple):
    """A pair, and which of its answers people preferred."""

    pair: Pair
    preferred: Winner


class LabelledAnswer(NamedTuple):
    """An answer, and the score that people gave it, 1 to 5."""

    id: str
    prompt: tuple[Message, ...]
    answer: str
    score: int
    reference: str | None = None
    cluster: str | None = None


class JudgeCheck(Record):
    """How far a judge agrees with people."""

    id: str
    """``check-`` and 16 hex digits."""
    judge: str
    """Hash of model, endpoint, rubric and prompt; another of these is another judge."""
    kind: JudgeKind | Literal["grader"]
    """What it judges by: a rubric, pairs, or one of OpenAI's graders that ask a model."""
    model: str
    host: str
    n: int
    """Rows that people labelled [count]."""
    kappa: float
    """Cohen's; of scores weighted by the square of the distance."""
    kappa_ci95: tuple[float, float]
    accuracy: float
    """Share of rows on which both say the same."""
    accuracy_ci95: tuple[float, float]
    position_bias: Metric | None
    """Share of pairs on which the verdict turns with the order; None for scores."""
    errors: int
    """Rows without a readable verdict; they count as missed [count]."""
    classes: tuple[ClassAgreement, ...]
    """Sensitivity, specificity and confusions of each class."""
    labels_sha256: str
    created_at: datetime

    def problem(self, least: float) -> str | None:
        """Return why a gate may not rest on this judge, None where it may."""
        if self.kappa_ci95[0] >= least:
            return None
        low, high = (number(end) for end in self.kappa_ci95)
        return (
            f"its kappa with people is {number(self.kappa)} (95 % interval {low} to {high}, {self.n} rows), "
            f"and the lower end must reach {number(least)} (evaluate.judge.min_kappa)"
        )


def check_judge(
    workspace: Workspace, judge: EndpointJudge, labels: Sequence[LabelledPair] | Sequence[LabelledAnswer]
) -> JudgeCheck:
    """Have a judge judge what people have judged, measure how far they agree, and keep the result.

    Raises:
        ConfigError: There are fewer than two labels, or all of them are the same.
        TuneryError: As :meth:`EndpointJudge.ask` says.
    """
    pairs = [row for row in labels if isinstance(row, LabelledPair)]
    kind: JudgeKind = "pairwise" if pairs else "rubric"
    sha256 = sha256_text(canonical_json([_plain(row) for row in labels]))
    key = judge_key(judge.config, kind)
    answers = [row for row in labels if isinstance(row, LabelledAnswer)]
    found = _of_pairs(judge, pairs) if pairs else _of_answers(judge, answers)
    who = {"judge": key, "kind": kind, "model": judge.config.model, "host": judge.config.host}
    return keep_check(workspace, found, who, labels_sha256=sha256, pairs=pairs)


def keep_check(
    workspace: Workspace,
    found: Agreed,
    who: Mapping[str, Any],
    *,
    labels_sha256: str,
    pairs: Sequence[LabelledPair] = (),
) -> JudgeCheck:
    """Keep how far somebody agreed with people.

    Args:
        workspace: Where.
        found: What people and it said of each row.
        who: ``judge``, ``kind``, ``model`` and ``host`` of the record.
        labels_sha256: Of what people said.
        pairs: People's labels of pairs, which correct win rates later.

    Raises:
        ConfigError: There are fewer than two labels, or all of them are the same.
    """
    verdicts = sha256_text(canonical_json(found.judged))  # errors of one day may be none on the next
    inputs = {"labels": labels_sha256, "verdicts": verdicts}
    config = {"judge": who["judge"]}
    identity = artifact_id("check", stage="judge_check", version=1, config=config, inputs=inputs)
    n = len(found.human)
    if found.kappa is None:
        raise ConfigError(
            f"no agreement beyond chance can be measured on {n} labels: one alone, or all the same",
            hint="label rows of several kinds, some hundred at best",
        )
    agreed = sum(human == judged for human, judged in zip(found.human, found.judged, strict=True))
    check = JudgeCheck(
        id=identity,
        **who,
        n=n,
        kappa=found.kappa.value,
        kappa_ci95=tuple(found.kappa.ci95),
        accuracy=agreed / n,
        accuracy_ci95=tuple(wilson_interval(agreed, n)),
        position_bias=found.position_bias,
        errors=found.judged.count(UNJUDGED),
        classes=by_class(found.human, found.judged, found.classes),
        labels_sha256=labels_sha256,
        created_at=workspace.clock.now(),
    )
    _keep(workspace, check, pairs)
    return check


def find_check(workspace: Workspace, config: JudgeConfig, kind: JudgeKind) -> JudgeCheck | None:
    """Return the newest check of exactly this judge, None where there is none."""
    return newest_check(workspace, judge_key(config, kind))


def newest_check(workspace: Workspace, key: str) -> JudgeCheck | None:
    """Return the newest check of the judge that a hash stands for, None where there is none."""
    artifacts = workspace.artifacts
    found = []
    for identity in artifacts.ids("reviews"):
        about = artifacts.about("reviews", identity)
        if about.get("judge") == key:
            found.append((str(about["created_at"]), identity))
    if not found:
        return None
    text = (artifacts.path("reviews", max(found)[1]) / CHECK).read_text(encoding="utf-8")
    return JudgeCheck.model_validate_json(text)


def labels_kept(workspace: Workspace) -> dict[str, Winner]:
    """Return every pair that people judged for a check, as ``compare_by_judge`` takes labels.

    People's labels say nothing of a judge, so those of every judge's check count.
    """
    from tunery.evaluate.readers.files import load

    found: dict[str, Winner] = {}
    for identity in workspace.artifacts.ids("reviews"):
        path = workspace.artifacts.path("reviews", identity) / LABELS
        if path.exists():
            found |= {row["pair"]: row["preferred"] for _, row in load(path, [])}
    return found


class Agreed(NamedTuple):
    """What people and a judge said of the same rows."""

    human: list[str]
    judged: list[str]
    """``unjudged`` where it gave no readable verdict."""
    classes: tuple[str, ...]
    kappa: Agreement | None
    """None where no agreement beyond chance can be measured."""
    position_bias: Metric | None = None


def _of_pairs(judge: EndpointJudge, rows: Sequence[LabelledPair]) -> Agreed:
    verdicts = judge_pairs(judge, [row.pair for row in rows])
    clusters = [row.pair.cluster or row.pair.id for row in rows]
    human: list[str] = [row.preferred for row in rows]
    judged = [UNJUDGED if verdict.error else str(verdict.winner) for verdict in verdicts]
    classes = (*_WINNERS, *([UNJUDGED] if UNJUDGED in judged else []))
    kappa = kappa_of(human, judged, classes, clusters)
    return Agreed(human, judged, classes, kappa, position_bias(verdicts, clusters))


def _of_answers(judge: EndpointJudge, rows: Sequence[LabelledAnswer]) -> Agreed:
    config = judge.config
    asked = [rating_turns(config, row.prompt, row.answer, reference=row.reference) for row in rows]
    judge.ask(asked, rating_form(config))
    judged = []
    for turns in asked:
        try:
            rating = read_rating(judge(turns), tuple(config.criteria))
        except NoAnswer:
            rating = None
        judged.append(UNJUDGED if rating is None else str(rating.overall))
    human = [str(row.score) for row in rows]
    clusters = [row.cluster or row.id for row in rows]
    # What has no verdict is as far from people's score as the scale allows.
    read = [
        (_SCORES[0] if int(h) > (LOWEST + HIGHEST) / 2 else _SCORES[-1]) if j == UNJUDGED else j
        for h, j in zip(human, judged, strict=True)
    ]
    classes = (*_SCORES, *([UNJUDGED] if UNJUDGED in judged else []))
    return Agreed(human, judged, classes, kappa_of(human, read, _SCORES, clusters, ordered=True))


def kappa_of(
    human: Sequence[str],
    judged: Sequence[str],
    classes: Sequence[str],
    clusters: Sequence[str],
    *,
    ordered: bool = False,
) -> Agreement | None:
    """Return Cohen's kappa of two raters; None of a single row, and where all is of one class."""
    if len(human) < 2:
        return None
    return cohen_kappa(human, judged, classes, ordered=ordered, clusters=clusters)


def _keep(workspace: Workspace, check: JudgeCheck, pairs: Sequence[LabelledPair]) -> None:
    about = {"judge": check.judge, "kind": check.kind, "created_at": check.created_at.isoformat()}
    with workspace.artifacts.create("reviews", check.id, about) as folder:
        write_json_lines(folder / CHECK, [check.model_dump(mode="json")])
        if pairs:
            keep_labels(folder, pairs)


def keep_labels(folder: Path, pairs: Sequence[LabelledPair]) -> None:
    """Write people's labels of pairs where :func:`labels_kept` finds them."""
    kept = dict(label_of(row.pair, row.preferred) for row in pairs)
    write_json_lines(folder / LABELS, [{"pair": pair, "preferred": said} for pair, said in kept.items()])


def _plain(row: LabelledPair | LabelledAnswer) -> Any:
    pair, said = (row.pair, row.preferred) if isinstance(row, LabelledPair) else (row, row.score)
    return [*(x for x in pair if not isinstance(x, tuple)), [t.content for t in pair.prompt], said]
