"""``tunery rescue record``: the old model's answers, bought once each."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tunery.cli.output import answer, styled
from tunery.cli.parameters import (
    BudgetTokens,
    BudgetUsd,
    ConsentKey,
    Json,
    PriceCompletion,
    PricePrompt,
    WithoutConsent,
)
from tunery.cli.progress import terminal_progress
from tunery.cli.rescue_folder import OldModel, RescueName, model_of, open_rescue, scope_of, working_on
from tunery.cli.session import open_workspace
from tunery.cli.stop import WAITING, until_asked
from tunery.core.errors import BusyError, ConfigError, ResourceError
from tunery.core.figures import counted, usd
from tunery.rescue.commands import DEFAULT_NAME, command

if TYPE_CHECKING:
    from tunery.cli.output import Part
    from tunery.endpoint.budget import Limits
    from tunery.endpoint.config import EndpointConfig
    from tunery.pipeline.rescue.record import Estimate, Recorded
    from tunery.rescue.folder import RescueFolder
    from tunery.rescue.records import Scope

_PATIENCE = 20
"""Requests in a row without an answer after which the source is given up [count]."""


def record_answers(  # noqa: PLR0913 - typer makes each parameter an option
    ctx: typer.Context,
    model: OldModel = "",
    *,
    name: RescueName = DEFAULT_NAME,
    prompts: Annotated[
        list[Path] | None,
        typer.Option(
            "--prompts",
            metavar="FILE",
            exists=True,
            dir_okay=False,
            help="More prompts, from logs of yours; JSON Lines, CSV, Parquet. Their answers count as right.",
        ),
    ] = None,
    stored: Annotated[
        bool, typer.Option("--stored", help="Prompts of completions stored at the source, too.")
    ] = False,
    from_requests: Annotated[
        bool,
        typer.Option(
            "--from-requests",
            help="Prompts of this server's own request log, asked under the old model's name; those that the "
            "old model has answered are not bought again. Only those with consent.",
        ),
    ] = False,
    consent_key: ConsentKey = "training_consent",
    without_consent: WithoutConsent = False,
    holdout: Annotated[
        float | None,
        typer.Option(
            "--holdout",
            min=0.01,
            max=0.5,
            help="Share of the prompts that is held out; by default a tenth, 200 to 1,000 of them, at most "
            "half.",
        ),
    ] = None,
    max_tokens: Annotated[int, typer.Option("--max-tokens", min=16, help="Longest answer.")] = 1024,
    budget_usd: BudgetUsd = None,
    budget_tokens: BudgetTokens = None,
    price_prompt: PricePrompt = None,
    price_completion: PriceCompletion = None,
    requests_per_minute: Annotated[
        float | None,
        typer.Option("--requests-per-minute", help="No faster than this; the source's limits page has it."),
    ] = None,
    tokens_per_minute: Annotated[
        float | None,
        typer.Option("--tokens-per-minute", help="No faster than this, prompts and answers together."),
    ] = None,
    concurrency: Annotated[
        int, typer.Option("--concurrency", min=1, max=256, help="Requests in flight at once.")
    ] = 8,
    terms_read: Annotated[
        bool,
        typer.Option(
            "--terms-read",
            help="You have read the source's terms of use: its answers may train a model of yours.",
        ),
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Spend without asking.")] = False,
    as_json: Json = False,
) -> None:
    """Have the old model answer its prompts while it can.

    The answers are what ours is compared with, and train it where a row has none of its owner's. Draws the
    hold-out before anything is asked, says what it will cost at most, and goes on where it ended.
    """
    from tunery.core.config import parse_settings
    from tunery.data.config import TrafficConfig
    from tunery.endpoint.ask import Asking
    from tunery.endpoint.budget import Limits
    from tunery.endpoint.config import EndpointConfig
    from tunery.pipeline.rescue.holdout import HoldOut, draw
    from tunery.pipeline.rescue.prompts import all_prompts, job_of
    from tunery.pipeline.rescue.record import estimate, note_field, record
    from tunery.pipeline.rescue.record_page import recorded_page
    from tunery.pipeline.rescue.requests import Logged, keep_answers, logged_prompts
    from tunery.pipeline.rescue.stored import stored_prompts

    folder = open_rescue(ctx, name)
    named = model_of(folder, model)
    scope = scope_of(folder, named)
    if budget_usd is not None and not 0 < budget_usd < math.inf:
        raise ConfigError(f"--budget-usd is an amount above 0, not {budget_usd}", hint="--budget-usd 5")
    if (budget_usd is not None) and (price_prompt is None or price_completion is None):
        raise ConfigError(
            "a budget in money needs the prices",
            hint="--price-prompt and --price-completion, see the price list",
        )
    config = parse_settings(
        EndpointConfig,
        {
            "base_url": scope.base_url, "model": named, "max_tokens": max_tokens, "concurrency": concurrency,
            "price_prompt": price_prompt, "price_completion": price_completion,
            "requests_per_minute": requests_per_minute, "tokens_per_minute": tokens_per_minute,
            "max_tokens_field": scope.max_tokens_field,
        },
        where="tunery rescue record",
    )  # fmt: skip
    with working_on(ctx, name):
        job = job_of(folder.inventory(), named)
        asked, left_out = all_prompts(folder, job, prompts or ())
        logged = Logged([], {}, {})
        if stored:
            more = asyncio.run(stored_prompts(scope, named))
            asked, left_out = [*asked, *more.found], [*left_out, *more.left_out]
        if from_requests:
            about = {"consent_key": consent_key, "require_consent": not without_consent}
            rule = parse_settings(TrafficConfig, about, where="tunery rescue record")
            with open_workspace(ctx) as workspace:
                logged = logged_prompts(folder, workspace, named, rule)
            asked = [*asked, *logged.found]
        drawn = draw(folder, named, asked, left_out, HoldOut.of(holdout))
        keep_answers(folder, named, logged, drawn)
    held = sum(prompt.portion == "holdout" for prompt in drawn)
    terminal_progress().event(
        f"held out: {held:,} of {counted(len(drawn), 'prompt')}, on which ours is compared and never trains"
    )
    need = estimate(folder, config, drawn, max_tokens)
    cap = Limits(budget_tokens, budget_usd)
    _agree(folder, scope, need, cap, config, terms_read=terms_read, yes=yes)
    with until_asked(WAITING) as stop:
        asking = Asking(
            cap, lambda: datetime.now(UTC), stop, progress=terminal_progress(), patience=_PATIENCE
        )
        found = record(folder, scope, config, drawn, asking)
    found = found.with_(left_out=tuple(left_out), skipped=logged.skipped)
    if found.max_tokens_field != scope.max_tokens_field:
        # Where another command is at work the next recording finds it out again; this one is done.
        with suppress(BusyError), working_on(ctx, name):
            note_field(folder, scope, found.max_tokens_field)
    page = folder.write_text(folder.of_model(named) / "record.md", recorded_page(found))
    answer(
        {"recorded": found, "estimate": need, "page": page},
        lambda: _parts(found, page, name),
        as_json=as_json,
    )
    if found.failed:
        raise typer.Exit(ResourceError.exit_code)


def _agree(  # noqa: PLR0913 - what is agreed on
    folder: RescueFolder,
    scope: Scope,
    need: Estimate,
    cap: Limits,
    config: EndpointConfig,
    *,
    terms_read: bool,
    yes: bool,
) -> None:
    """Have the terms question answered and the spending agreed to before anything is sent."""
    from tunery.rescue.terms import answered, note_yes, question_of, unanswered

    interactive = typer.get_text_stream("stdin").isatty()
    if answered(folder, scope) is None:
        if not terms_read and not interactive:
            raise unanswered(scope)
        if not terms_read and not typer.confirm(question_of(scope), err=True):
            raise ConfigError(
                "nothing was sent: the question on the terms of use was answered with no",
                hint="rows with answers of your own can train without the old model's",
            )
        note_yes(folder, scope, user(), datetime.now(UTC))
    if not need.requests:
        return
    for line in estimate_lines(need, config, cap):
        terminal_progress().event(line)
    if not yes and not interactive and not any(cap):
        raise ConfigError(
            f"{counted(need.requests, 'request')} would be paid for, and nobody is here to agree",
            hint="--yes, or a cap: --budget-usd, --budget-tokens",
        )
    if not yes and interactive and not typer.confirm("Send them?", err=True):
        raise ConfigError("nothing was sent", hint="--budget-usd or --budget-tokens caps what it may cost")


def user() -> str:
    """Return who types, as the machine knows them."""
    import getpass

    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"


def estimate_lines(need: Estimate, config: EndpointConfig, cap: Limits) -> Iterable[str]:
    """Yield what a recording will take, a sentence each."""
    money = f", {usd(need.usd)}" if need.usd is not None else ""
    likely = f", {usd(need.likely_usd)}" if need.likely_usd is not None else ""
    yield (
        f"{counted(need.requests, 'request')} to {config.host}: likely "
        f"{need.likely_tokens:,} tokens{likely}, at most {need.tokens:,}{money}"
    )
    caps = [f"{cap.tokens:,} tokens" if cap.tokens else "", usd(cap.usd) if cap.usd else ""]
    if any(caps):
        yield f"all calls together spend at most {' and '.join(filter(None, caps))}"
    if need.usd is None:
        yield "what that costs: --price-prompt and --price-completion, from the source's price list"


def _parts(found: Recorded, page: Path, name: str) -> Iterable[Part]:
    from tunery.pipeline.rescue.record_page import recorded_lines

    for line in recorded_lines(found):
        yield styled(line, "yellow") if line.startswith(("not recorded", "left out")) else line
    yield f"written to {page}"
    if not found.failed:
        yield f"next: {command(name, 'recipe', found.model)}"
