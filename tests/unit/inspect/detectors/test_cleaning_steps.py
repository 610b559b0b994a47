"""The cleaning steps that a recipe can switch on, and settings that must not change a version's identity."""

from __future__ import annotations

from tunery.data.clean import Text, clean_texts
from tunery.data.config import CleanConfig
from tunery.text.markup import find_html, strip_html

TEXT = "<p>Itâ€™s late</p>"


def repair(texts, config):
    return clean_texts([Text(text, is_answer=False) for text in texts], config).texts


def test_both_steps_are_off_unless_a_recipe_asks_for_them():
    assert repair([TEXT], CleanConfig()) == [TEXT]


def test_each_step_does_its_own_work_only():
    assert repair([TEXT], CleanConfig(fix_mojibake=True)) == ["<p>It’s late</p>"]
    assert repair([TEXT], CleanConfig(strip_html=True)) == ["Itâ€™s late"]
    assert repair([TEXT], CleanConfig(fix_mojibake=True, strip_html=True)) == ["It’s late"]


def test_what_a_page_hides_goes_with_its_tags():
    page = "<style>p {color: red}</style><!-- draft --><p>Hello<script>track(1 < 2)</script></p>"

    assert strip_html(page) == "Hello"


def test_an_unclosed_comment_is_left_as_it_is():
    assert strip_html("a <!-- b") == "a <!-- b"
    assert find_html("a <!-- b") is None


def test_entities_that_would_make_a_tag_stay():
    assert strip_html("Write &lt;b&gt; &amp; wait") == "Write &lt;b&gt; &amp; wait"
    assert strip_html("5 &lt; 6 &amp;amp; so on") == "5 < 6 & so on"
