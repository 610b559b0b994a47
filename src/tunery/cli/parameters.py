"""Arguments and options that several commands share, each said once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

RecipePath = Annotated[Path, typer.Argument(metavar="RECIPE", help="A recipe: one YAML file.")]
"""Where the recipe lies; what relative paths in it are relative to is its folder."""
Overrides = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="KEY=VALUE",
        help="Settings to change for this call, such as train.epochs=4 or data.sources[0].limit=500.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON value in place of text.")]
Replace = Annotated[bool, typer.Option("--replace", help="Write over what is there.")]
ConsentKey = Annotated[
    str, typer.Option("--consent-key", metavar="KEY", help="Where a request's metadata gives consent.")
]
WithoutConsent = Annotated[
    bool, typer.Option("--without-consent", help="Take requests that say nothing of consent, too.")
]
Reference = Annotated[str, typer.Argument(metavar="NAME@N", help="A model version: name@3 or name@champion.")]
Name = Annotated[str, typer.Argument(metavar="NAME", help="Name of a model.")]
Project = Annotated[
    str | None,
    typer.Option(
        "--project", metavar="PROJECT", help="Of this project; else of all, and new things of 'default'."
    ),
]
Limit = Annotated[int, typer.Option("--limit", min=1, help="At most this many, newest first.")]
After = Annotated[
    str | None,
    typer.Option("--after", metavar="ID", help="Go on behind this one, the last of a list before."),
]
Reason = Annotated[str, typer.Option("--reason", help="Why; recorded with the move.")]
OverrideGate = Annotated[
    bool,
    typer.Option(
        "--override-gate", help="Do it although the gate refused the version; needs --by and --reason."
    ),
]
By = Annotated[
    str | None,
    typer.Option("--by", metavar="NAME", help="Who overrides the gate; the version's card keeps it."),
]
WhyOverride = Annotated[
    str | None,
    typer.Option("--reason", metavar="TEXT", help="Why; recorded, with an overridden gate in the card, too."),
]
ApiKeyEnv = Annotated[
    str | None,
    typer.Option("--api-key-env", metavar="VARIABLE", help="Environment variable that holds the key."),
]
"""Where the key of another's endpoint is, never the key itself."""
BudgetTokens = Annotated[int | None, typer.Option("--budget-tokens", min=1, help="Tokens to spend at most.")]
"""In all calls of the same work together."""
BudgetUsd = Annotated[
    float | None, typer.Option("--budget-usd", help="US dollars to spend at most; needs the prices.")
]
"""In all calls of the same work together."""
PricePrompt = Annotated[
    float | None, typer.Option("--price-prompt", help="US dollars for a million prompt tokens.")
]
PriceCompletion = Annotated[
    float | None, typer.Option("--price-completion", help="US dollars for a million answer tokens.")
]


def endpoint_settings(
    base_url: str | None,
    model: str | None,
    api_key_env: str | None,
    price_prompt: float | None,
    price_completion: float | None,
) -> dict[str, Any]:
    """Return the settings of another's endpoint, those that were given."""
    given = {
        "base_url": base_url,
        "model": model,
        "api_key_env": api_key_env,
        "price_prompt": price_prompt,
        "price_completion": price_completion,
    }
    return {name: value for name, value in given.items() if value is not None}
