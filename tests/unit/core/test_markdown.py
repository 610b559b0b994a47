"""Markdown from other people's words: what was meant as text stays text."""

from __future__ import annotations

from tunery.core.markdown import bullets, code, fenced, inline, table


def test_inline_text_cannot_end_a_line_a_table_or_a_span() -> None:
    assert inline("a\n# b | `c`") == "a \\# b \\| \\`c\\`"


def test_a_code_span_holds_neither_backticks_nor_bars() -> None:
    assert code("a`b|c\r\nd") == "a'b\\|c d"
    assert code("  ") == "(empty)"


def test_a_fence_is_longer_than_any_in_the_text() -> None:
    assert fenced("x\n````\ny") == "`````text\nx\n````\ny\n`````"


def test_a_list_without_lines_reads_none() -> None:
    assert bullets([]) == "None."
    assert table(["a", "b"], [["1", "2"]]) == "| a | b |\n| --- | --- |\n| 1 | 2 |"
