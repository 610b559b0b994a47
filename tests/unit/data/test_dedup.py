"""Repeats are removed only when nothing is lost by it; the rest is grouped."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tunery.core.example import Example, Message, example_id
from tunery.data.dedup import exact_repeats, group_rows, join, near_repeats
from tunery.data.similarity import Pair


def example(
    row: int, prompt: str, answer: str, *, label: str | None = None, rejected: str | None = None
) -> Example:
    messages = (Message(role="user", content=prompt), Message(role="assistant", content=answer))
    identity = example_id(messages, rejected)
    metadata = {"source": "a.csv", "row": row}
    return Example(
        id=identity, messages=messages, rejected=rejected, group=identity, label=label, metadata=metadata
    )


def test_a_repeat_but_for_case_and_punctuation_goes_and_names_the_row_kept() -> None:
    found = exact_repeats(
        [example(1, "Where's my card?", "x"), example(2, "Other", "x"), example(3, "where s my CARD", "x")]
    )
    assert found.drops[2].reason == "exact_duplicate"
    assert found.drops[2].detail == "repeats row 1 of a.csv"
    assert list(found.drops) == [2]


def test_equal_prompts_with_different_answers_both_stay_and_belong_together() -> None:
    found = exact_repeats([example(1, "Where?", "x"), example(2, "where", "y"), example(3, "Where?", "X")])
    assert found.drops == {}
    assert [(p.first, p.second) for p in found.pairs] == [(0, 1), (0, 2)]


def test_preference_pairs_with_another_rejected_answer_are_no_repeats() -> None:
    pairs = [example(1, "q", "a", rejected="b"), example(2, "q", "a", rejected="c")]
    assert exact_repeats(pairs).drops == {}


LONG = "How long does it take until the card that I ordered last week gets here"


def near(examples: list[Example]) -> list[int]:
    return list(near_repeats(examples, drop_from=0.9, link_from=0.8).drops)


def test_a_near_repeat_with_the_same_label_goes() -> None:
    a, b = example(1, LONG, "x", label="x"), example(2, LONG + " now", "x", label="x")
    found = near_repeats([a, b], drop_from=0.9, link_from=0.8)
    assert found.drops[1].reason == "near_duplicate"
    assert found.drops[1].detail == "94% like row 1 of a.csv, with the same answer"


def test_a_near_repeat_with_another_label_stays_in_the_same_group() -> None:
    a, b = example(1, LONG, "x", label="x"), example(2, LONG + " now", "y", label="y")
    found = near_repeats([a, b], drop_from=0.9, link_from=0.8)
    assert found.drops == {}
    assert [(p.first, p.second) for p in found.pairs] == [(0, 1)]


def test_texts_that_differ_in_a_number_are_never_repeats() -> None:
    long = (
        "Please send the sum of precisely {} pounds to the account of my landlord before Friday evening, "
        "and tell me when the money has arrived there"
    )
    assert near([example(1, long.format(100), "ok"), example(2, long.format(180), "ok")]) == []
    assert near([example(1, long.format("ten"), "ok"), example(2, long.format("six"), "ok")]) == [1]


def test_free_answers_must_be_nearly_the_same_too() -> None:
    long = "The parcel was handed over to the carrier on Monday and should arrive within the next days"
    assert near([example(1, LONG, long), example(2, LONG + " now", long + " then")]) == [1]
    assert near([example(1, LONG, long), example(2, LONG + " now", "I do not know.")]) == []


def test_a_chain_is_never_dropped_by_way_of_its_middle() -> None:
    # Each step is 90 % like the one before; the last is not like the first, so it must stay.
    steps = [LONG]
    for word in (" or", " not", " at", " all", " today", " please"):
        steps.append(steps[-1] + word)
    rows = [example(i, text, "x", label="x") for i, text in enumerate(steps, start=1)]
    dropped = near_repeats(rows, drop_from=0.9, link_from=0.8).drops
    kept = [i for i in range(len(rows)) if i not in dropped]
    assert 0 in kept
    assert len(kept) > 1
    for i, drop in dropped.items():
        keeper = int(drop.detail.split("row ")[1].split()[0]) - 1
        assert keeper in kept
        assert keeper < i


def test_equal_prompts_are_linked_but_left_to_the_exact_search() -> None:
    found = near_repeats([example(1, LONG, "x"), example(2, LONG, "y")], drop_from=0.5, link_from=0.5)
    assert found.drops == {}
    assert found.pairs == [Pair(0, 1, 1.0)]


def graphs(nodes: int) -> st.SearchStrategy[tuple[int, list[tuple[int, int]]]]:
    node = st.integers(0, nodes - 1)
    return st.tuples(st.just(nodes), st.lists(st.tuples(node, node)))


@given(st.integers(1, 12).flatmap(graphs))
def test_join_gives_the_first_row_of_each_connected_group(graph: tuple[int, list[tuple[int, int]]]) -> None:
    count, links = graph
    roots = join(count, links)
    assert all(roots[a] == roots[b] for a, b in links)
    for i, root in enumerate(roots):
        assert root <= i
        assert roots[root] == root
    # As many groups as a spanning forest leaves.
    merged, groups = list(range(count)), count
    for a, b in links:
        if merged[a] != merged[b]:
            old = merged[b]
            merged = [merged[a] if m == old else m for m in merged]
            groups -= 1
    assert len(set(roots)) == groups


def test_a_long_chain_of_similar_rows_is_cut_but_firm_ties_hold() -> None:
    chain = [Pair(i, i + 1, 0.85) for i in range(20)]
    assert len(set(group_rows(21, [], chain, largest=30, strict=0.9))) == 1
    assert len(set(group_rows(21, [], chain, largest=10, strict=0.9))) == 21
    assert group_rows(21, [(3, 7)], chain, largest=10, strict=0.9)[7] == 3
    strict = [*chain[:5], Pair(5, 6, 0.95), *chain[6:]]
    assert group_rows(21, [], strict, largest=10, strict=0.9)[6] == 5
