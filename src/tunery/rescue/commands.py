"""What a person types for a step of a rescue, as pages and errors say it."""

from __future__ import annotations

DEFAULT_NAME = "openai"
"""Of the rescue that a call is about where none is named."""


def command(name: str, step: str, *words: str) -> str:
    """Return the command of a step; the rescue is named where it is not the one that every call means.

    >>> command("openai", "record", "ft:gpt-4o:acme::a1"), command("azure", "fetch")
    ('tunery rescue record ft:gpt-4o:acme::a1', 'tunery rescue fetch --name azure')
    """
    return " ".join(["tunery rescue", step, *words, *(() if name == DEFAULT_NAME else ("--name", name))])
