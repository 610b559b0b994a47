"""Held-out prompts: found word for word, reworded, and inside longer conversations."""

from __future__ import annotations

from tunery.core.example import Message, messages_text
from tunery.feedback.heldout import HeldOutIndex, HeldOutPrompt


def user(text: str) -> Message:
    return Message(role="user", content=text)


def index(*texts: str, similarity: float = 0.8) -> HeldOutIndex:
    prompts = [HeldOutPrompt("ds-1", "test", f"ex-{i}", t) for i, t in enumerate(texts)]
    return HeldOutIndex(prompts, similarity=similarity)


def test_case_width_punctuation_and_spaces_do_not_hide_a_prompt():
    held = index("Why hasn't my card arrived?")
    for copy in (
        "why hasn't my card arrived",
        "WHY  hasn't my\ncard arrived ??",
        "ｗｈｙ hasn't my card arrived?",
    ):
        match = held.match([user(copy)])
        assert match is not None, copy
        assert match.kind == "exact"


def test_a_system_turn_does_not_hide_a_prompt():
    match = index("where is my card").match(
        [Message(role="system", content="Classify."), user("Where is my card?")]
    )
    assert match is not None
    assert match.kind == "exact"


def test_a_reworded_prompt_is_a_near_match_and_another_question_is_none():
    held = index("I was charged twice for the same purchase at the supermarket yesterday")
    near = held.match([user("I was charged twice for the same purchases at the supermarket yesterday!")])
    assert near is not None
    assert near.kind == "near"
    assert 0.8 <= near.similarity < 1
    assert held.match([user("How do I order a second card for my partner?")]) is None


def test_a_held_out_prompt_inside_a_longer_conversation_is_found():
    held = index("where is my card")
    conversation = [
        user("Where is my card?"),
        Message(role="assistant", content="card_arrival"),
        user("And how do I activate it?"),
    ]
    assert held.match(conversation) is not None
    assert held.match([user("Good morning"), conversation[1], user("where is my card")]) is not None


def test_a_multi_turn_held_out_prompt_is_found_as_a_whole():
    turns = [user("Hello"), Message(role="assistant", content="How can I help?"), user("Cancel my order 7")]
    held = HeldOutIndex([HeldOutPrompt("ds-1", "test", "ex-1", messages_text(turns))], similarity=1)
    assert held.match(turns) is not None
    assert held.match([user("Cancel my order 7")]) is None


def test_an_empty_prompt_matches_nothing():
    assert index("", "where is my card").match([user("…")]) is None
