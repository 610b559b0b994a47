"""Whether our model is no worse than the old one, row by row, and how far it follows the old one's errors."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from pydantic import ValidationError

from tunery.core.config import Record
from tunery.core.errors import NotFoundError
from tunery.core.evaluation import Comparison, GateResult, Prediction
from tunery.core.figures import counted, metric_interval, metric_value, one_line, percent, subject_name, usd
from tunery.core.markdown import code, table
from tunery.core.run import TUNED, Run
from tunery.pipeline.rescue.recipe import OLD
from tunery.pipeline.stages.evaluate import predictions_of
from tunery.rescue.folder import RescueFolder, damaged
from tunery.store.dataset_files import read_examples
from tunery.store.workspace import Workspace
from tunery.text.sameness import fingerprint

PROOF = "report.json"
"""Of a model's folder: what the newest run showed."""
_SHOWN = 20
"""Rows of a kind on the page [count]."""
_LONGEST = 160
"""Of a text in a cell [characters]."""
_NAMES = {OLD: "The old model, as recorded", TUNED: "Ours"}


class Flip(Record):
    """A held-out row on which one of the two is right and the other wrong."""

    id: str
    asked: str = ""
    """The end of its prompt; empty in earlier records."""
    reference: str
    old: str
    ours: str
    fixed: bool
    """Whether it is ours that is right."""


class Following(Record):
    """What ours answers where the old model is wrong."""

    wrong: int
    """Held-out rows on which the old model is wrong [count]."""
    same: int
    """Of these, those on which ours gives the same wrong answer [count]."""
    right: int
    """Of these, those on which ours is right [count]."""
    by_chance: float
    """Share that would be the same wrong answer were ours drawn at random from its own."""

    @property
    def sentence(self) -> str:
        """It as a person reads it."""
        if not self.wrong:
            return "The old model is wrong on none of these rows, so there is no error of it to follow."
        rows, chance = counted(self.wrong, "row"), percent(self.by_chance)
        return (
            f"Where the old model is wrong ({rows}), ours gives the same wrong answer in "
            f"{percent(self.same / self.wrong)} (by chance {chance}) and is right in "
            f"{percent(self.right / self.wrong)}."
        )


class ArmCost(Record):
    """One arm's result and price."""

    arm: str
    value: str
    """The goal's metric with its interval."""
    usd_per_1k: float | None
    """What 1,000 requests cost; None where no price is known [US dollars]."""


class Proof(Record):
    """What a run says of taking an old model's place."""

    model: str
    run: str
    status: str
    version: str | None
    verdict: str
    refused_because: tuple[str, ...] = ()
    """A sentence for each rule of the gate that does not hold, and what would make it hold."""
    rows: int
    """Held-out rows that both answered [count]."""
    difference: float | None
    """Of the goal's metric, ours minus the old model's; None where they were not compared."""
    interval: tuple[float, float] | None
    """Of :attr:`difference`, 95 %."""
    flips: tuple[Flip, ...]
    following: Following
    arms: tuple[ArmCost, ...]


def prove(
    folder: RescueFolder, model: str, workspace: Workspace, run: Run, *, price_per_hour: float | None = None
) -> Proof:
    """Return what a finished run says of our model beside the old one.

    Args:
        folder: Of the rescue.
        model: The old one.
        workspace: Of the run.
        run: That :func:`tunery.pipeline.loop.run_recipe` returned.
        price_per_hour: Of the hardware that will serve ours [US dollars]; None where nobody says.

    Raises:
        NotFoundError: The run measured not both of them.
    """
    if OLD not in run.evaluations or TUNED not in run.evaluations:
        raise NotFoundError(f"{run.id} has not measured both the old model and ours")
    old, ours = ({p.id: p for p in predictions_of(workspace, run.evaluations[name])} for name in (OLD, TUNED))
    pairs = [(old[id], ours[id]) for id in old if id in ours]
    compared = Comparison.model_validate(run.comparisons[OLD]) if OLD in run.comparisons else None
    gate = workspace.gates.find(run.gate_id) if run.gate_id else None
    return Proof(
        model=model,
        run=run.id,
        status=run.status,
        version=run.model_version,
        verdict=gate.verdict if gate else "the run came to no verdict",
        rows=len(pairs),
        difference=compared.difference if compared else None,
        interval=compared.ci95 if compared else None,
        refused_because=tuple(_broken(gate)),
        flips=tuple(_flips(pairs, _asked(workspace, run.dataset_version))),
        following=following(pairs),
        arms=tuple(_arms(folder, model, workspace, run.evaluations, price_per_hour)),
    )


def following(pairs: Sequence[tuple[Prediction, Prediction]]) -> Following:
    """Count what ours answers where the old model is wrong.

    By chance means: ours answered each row with an answer that it gave to a row drawn at random.
    """
    ours = Counter(fingerprint(mine.prediction) for _, mine in pairs)
    wrong = [(old, mine) for old, mine in pairs if not old.correct]
    chance = sum(ours[fingerprint(old.prediction)] for old, _ in wrong) / (len(pairs) or 1)
    return Following(
        wrong=len(wrong),
        same=sum(fingerprint(old.prediction) == fingerprint(mine.prediction) for old, mine in wrong),
        right=sum(mine.correct for _, mine in wrong),
        by_chance=chance / (len(wrong) or 1),
    )


def _broken(gate: GateResult | None) -> Iterator[str]:
    for rule in gate.rules if gate else ():
        if not rule.passed:
            yield rule.sentence + (f"; to pass: {rule.change}" if rule.change else "")


def _asked(workspace: Workspace, dataset: str | None) -> dict[str, str]:
    """Return the last turn of each held-out row by its id."""
    if dataset is None:
        return {}
    rows = read_examples(workspace.artifacts.path("datasets", dataset), "test")
    return {row.id: row.prompt[-1].content for row in rows if row.prompt}


def _flips(pairs: Sequence[tuple[Prediction, Prediction]], asked: Mapping[str, str]) -> Iterator[Flip]:
    for old, mine in pairs:
        if old.correct != mine.correct:
            yield Flip(
                id=old.id,
                asked=asked.get(old.id, ""),
                reference=old.reference,
                old=old.prediction,
                ours=mine.prediction,
                fixed=mine.correct,
            )


def _arms(
    folder: RescueFolder,
    model: str,
    workspace: Workspace,
    evaluations: Mapping[str, str],
    price_per_hour: float | None,
) -> Iterator[ArmCost]:
    held = [r.usd for r in folder.answers(model) if r.portion == "holdout" and r.usd]
    for name, id in evaluations.items():
        found = workspace.evaluations.find(id)
        if found is None or found.main_metric not in found.metrics:
            continue
        cost = found.usd_per_1k(price_per_hour)
        if name == OLD:
            cost = 1000 * sum(held) / len(held) if held else None
        value = f"{metric_value(found.main)} ({metric_interval(found.main)})"
        yield ArmCost(arm=name, value=value, usd_per_1k=cost)


def proof_page(proof: Proof) -> str:
    """Return the page."""
    return "\n\n".join(_blocks(proof)) + "\n"


def proof_lines(proof: Proof) -> Iterator[str]:
    """Yield what matters, a sentence each."""
    yield proof.verdict
    yield from proof.refused_because
    if proof.difference is not None and proof.interval is not None:
        low, high = proof.interval
        yield (
            f"On {counted(proof.rows, 'held-out row')} ours is {100 * proof.difference:+.1f} points beside "
            f"the old model ({100 * low:+.1f} to {100 * high:+.1f}, 95 %)."
        )
    fixed = sum(flip.fixed for flip in proof.flips)
    broken = len(proof.flips) - fixed
    yield f"Ours is right and the old model wrong on {fixed:,}, the other way round on {broken:,}."
    yield proof.following.sentence
    for arm in proof.arms:
        cost = "" if arm.usd_per_1k is None else f", {usd(arm.usd_per_1k)} for 1,000 requests"
        yield f"{_NAMES.get(arm.arm) or subject_name(arm.arm)}: {arm.value}{cost}"


def _blocks(proof: Proof) -> Iterator[str]:
    yield f"# {proof.model} and what takes its place"
    yield f"Run `{proof.run}`, {proof.status}" + (f": `{proof.version}`." if proof.version else ".")
    yield "\n".join(f"- {line}" for line in proof_lines(proof))
    for title, fixed in (("Lost: the old model is right, ours is wrong", False), ("Won", True)):
        rows = [flip for flip in proof.flips if flip.fixed == fixed]
        if rows:
            yield f"## {title} ({len(rows):,})"
            yield table(
                ["asked", "should be", "old model", "ours"],
                [[f"`{code(one_line(text, _LONGEST))}`" for text in _told(f)] for f in rows[:_SHOWN]],
            )


def _told(flip: Flip) -> tuple[str, ...]:
    return (flip.asked or flip.id, flip.reference, flip.old, flip.ours)


def proven(place: Path) -> Proof | None:
    """Return what the newest run of a rescue showed, None where none has come to its end.

    Args:
        place: A model's folder in a rescue.

    Raises:
        DamagedError: The file is not as it was written.
    """
    file = place / PROOF
    if not file.is_file():
        return None
    try:
        return Proof.model_validate_json(file.read_bytes())
    except ValidationError as error:
        raise damaged(file, error) from error
