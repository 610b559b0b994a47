"""The tables of a dataset version, read by whoever needs a part of them."""

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from tunery.core.example import Example, prompt_text
from tunery.core.splits import SPLITS
from tunery.store.dataset_files import (
    EXAMPLE_SCHEMA,
    EXAMPLES,
    read_examples,
    read_held_out,
    write_parquet,
)

TURNS = st.lists(
    st.tuples(st.sampled_from(["system", "user", "assistant", "tool"]), st.text(max_size=5)), max_size=4
)
ROWS = st.lists(st.tuples(st.sampled_from(SPLITS), TURNS), max_size=6)


@given(ROWS)
def test_held_out_prompts_are_those_of_the_examples_outside_train(
    tmp_path_factory, rows: list[tuple[str, list[tuple[str, str]]]]
) -> None:  # type: ignore[no-untyped-def]
    folder: Path = tmp_path_factory.mktemp("ds")
    table = [
        {
            "id": f"ex-{i}",
            "split": split,
            "source": "rows.csv",
            "row": i + 1,
            "messages": [
                {"role": role, "content": content, "weight": 1} for role, content in (*turns, ("user", "a"))
            ],
            "group": f"ex-{i}",
            "metadata": "{}",
        }
        for i, (split, turns) in enumerate(rows)
    ]
    write_parquet(table, folder / EXAMPLES, EXAMPLE_SCHEMA)

    def held_out(split: str) -> list[tuple[str, str, str]]:
        examples: list[Example] = read_examples(folder, split)  # type: ignore[arg-type]
        return [(e.id, split, prompt_text(e)) for e in examples]

    assert sorted(read_held_out(folder)) == sorted([*held_out("validation"), *held_out("test")])
