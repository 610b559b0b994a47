"""``tunery data score``: what the base, and a judge if one is named, find in training rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tunery.cli.output import answer, facts
from tunery.cli.parameters import (
    ApiKeyEnv,
    BudgetTokens,
    BudgetUsd,
    Json,
    Overrides,
    PriceCompletion,
    PricePrompt,
    RecipePath,
    endpoint_settings,
)
from tunery.cli.session import open_recipe
from tunery.core.errors import ConfigError

if TYPE_CHECKING:
    from tunery.cli.output import Part
    from tunery.core.quality import RowQuality
    from tunery.synthesise.config import RowJudgeConfig


def score(  # noqa: PLR0913 - each is an option of its own
    ctx: typer.Context,
    recipe: RecipePath,
    overrides: Overrides = None,
    *,
    judge_endpoint: Annotated[
        str | None,
        typer.Option("--judge-endpoint", metavar="URL", help="A judge's address, such as https://host/v1."),
    ] = None,
    judge_model: Annotated[
        str | None, typer.Option("--judge-model", metavar="NAME", help="The judge's model name.")
    ] = None,
    rubric: Annotated[
        str | None, typer.Option("--rubric", help="What matters beyond the judge's general rubric.")
    ] = None,
    api_key_env: ApiKeyEnv = None,
    budget_tokens: BudgetTokens = None,
    budget_usd: BudgetUsd = None,
    price_prompt: PricePrompt = None,
    price_completion: PriceCompletion = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Further settings, such as judge.concurrency=8."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Score every training row under the base: how likely its answer is, with the prompt and without.

    With a judge behind an OpenAI-compatible endpoint each row gets a score from 1 to 5 as well. Started again
    with the same options it goes on where it ended, and pays for what is missing only.

    A recipe chooses rows by the scores: data.select.rows=1000 data.select.scores=quality-…; an inspection
    reports them with inspect.scores=quality-….
    """
    from tunery.cli.stop import WAITING, until_asked
    from tunery.pipeline.stages.score import score_recipe

    judge = endpoint_settings(judge_endpoint, judge_model, api_key_env, price_prompt, price_completion)
    about = {"rubric": rubric, "budget_tokens": budget_tokens, "budget_usd": budget_usd}
    judge_config = _judge(judge, about, settings)
    # All rows are scored, those too that a selection would leave out.
    everything = [*(overrides or ()), "data.select=null"]
    with (
        open_recipe(ctx, recipe, everything) as context,
        until_asked(WAITING) as context.should_stop,
        context.progress.task("score", None),
    ):
        scored = score_recipe(context, judge=judge_config)
        path = context.workspace.artifacts.path("quality", scored.id)
    value = {"quality": scored.id, "rows": len(scored.rows), "path": path, "judged": _judged(scored.rows)}
    answer(value, lambda: scored_text(scored.id, scored.rows, recipe), as_json=as_json)


def _judge(
    judge: dict[str, Any], about: dict[str, Any], settings: Sequence[str] | None
) -> RowJudgeConfig | None:
    """Return who judges; None where nobody is named.

    Raises:
        ConfigError: A judge is described that has no address or no name.
    """
    from tunery.core.config import apply_overrides, parse_settings
    from tunery.synthesise.config import RowJudgeConfig

    if "base_url" not in judge or "model" not in judge:
        if judge or settings or any(v is not None for v in about.values()):
            raise ConfigError(
                "a judge needs an address and a name", hint="--judge-endpoint URL --judge-model NAME"
            )
        return None
    values = {"judge": judge, **about}
    return parse_settings(RowJudgeConfig, apply_overrides(values, settings or ()), where="data score")


def _judged(rows: Sequence[RowQuality]) -> dict[str, int] | None:
    """Return how many rows got each score; None where nobody judged."""
    counts = Counter(row.judge for row in rows if row.judge is not None)
    return {str(score): counts[score] for score in sorted(counts)} or None


def scored_text(quality: str, rows: Sequence[RowQuality], recipe: Path) -> Iterable[Part]:
    """Return what the base says of the rows, and how a recipe selects by it."""
    from tunery.core.figures import number

    ifd, perplexity = (sorted(getattr(row, name) for row in rows) for name in ("ifd", "perplexity"))
    middle, judged = len(rows) // 2, _judged(rows)
    yield facts(
        [
            ("scores", quality),
            ("rows", f"{len(rows):,}"),
            (
                "median difficulty",
                f"{number(ifd[middle])} of the answer's loss is left when the prompt is known",
            ),
            ("median perplexity", number(perplexity[middle])),
            ("judged", judged and ", ".join(f"{score}: {count:,}" for score, count in judged.items())),
        ]
    )
    yield (
        f"Select by them, or look at the worst:\n\n"
        f"  tunery run {recipe} data.select.rows=1000 data.select.scores={quality}\n"
        f"  tunery data inspect {recipe} inspect.scores={quality}"
    )
