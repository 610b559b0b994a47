"""Identity: what makes two rows ask the same, one definition for repeats, contradictions and edits."""

from __future__ import annotations

from tunery.core.example import Example, prompt_text, without_system
from tunery.text.sameness import essence, fingerprint, words_alone


def wide_prompt(example: Example, text: str | None = None) -> str:
    """Return what prompts that may be the same have in common: who speaks, and the words alone.

    Args:
        example: Its last turn is the answer.
        text: The words alone of the prompt as a whole, where they are known.
    """
    spoken = without_system(example.prompt)
    if len(spoken) == len(example.prompt) == 1:
        return f"{spoken[0].role}:{words_alone(prompt_text(example)) if text is None else text}"
    return "\n".join(f"{m.role}:{words_alone(m.content)}" for m in example.prompt)


def said_prompt(example: Example) -> str:
    """Return what prompts have in common of which one repeats the other, where :func:`wide_prompt` agrees."""
    return "\n".join(f"{m.role}:{essence(m.content)}" for m in example.prompt)


def same_question(example: Example) -> str:
    """Return what prompts have in common that ask the same, whatever the system prompt before them."""
    return "\n".join(f"{m.role}:{fingerprint(m.content)}" for m in without_system(example.prompt))


def same_prompt(example: Example) -> str:
    """Return what prompts have in common that are the same, so that they have one answer; as above."""
    return "\n".join(f"{m.role}:{fingerprint(m.content)}" for m in example.prompt)
