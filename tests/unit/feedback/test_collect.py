"""Feedback on served requests: kept as written, refused when it says nothing, reviewed once."""

from __future__ import annotations

import pytest

from tunery.core.config import parse_settings
from tunery.core.errors import ConfigError, NotFoundError
from tunery.feedback.collect import GivenFeedback, record


def test_a_thumb_is_kept_with_its_author_and_waits_for_review(workspace, serve):
    request = serve("Where is my card?")
    given = record(workspace, request.id, GivenFeedback(kind="rating", rating=-1, comment="no"), author="ann")
    assert workspace.feedback.get(given.id) == given
    assert (given.status, given.rating, given.author, given.comment) == ("pending", -1, "ann", "no")


def test_feedback_on_a_request_that_was_never_served_is_refused(workspace, serve):
    serve("Where is my card?")
    with pytest.raises(NotFoundError, match="chatcmpl-77"):
        record(workspace, "chatcmpl-77", GivenFeedback(kind="rating", rating=1), author="ann")
    assert workspace.feedback.list() == []


def test_a_preference_names_both_answers_the_served_one_where_it_was_left_out(workspace, serve):
    request = serve("Where is my card?", completion="lost_card")
    worse = record(
        workspace, request.id, GivenFeedback(kind="preference", correction="card_arrival"), author="a"
    )
    assert (worse.correction, worse.rejected) == ("card_arrival", "lost_card")
    better = record(workspace, request.id, GivenFeedback(kind="preference", rejected="refund"), author="a")
    assert (better.correction, better.rejected) == ("lost_card", "refund")


def test_a_second_opinion_is_a_second_record(workspace, serve):
    request = serve("Where is my card?")
    for rating in (1, -1):
        record(workspace, request.id, GivenFeedback(kind="rating", rating=rating), author="ann")
    assert [f.rating for f in workspace.feedback.list(request_id=request.id)] == [-1, 1]


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"kind": "rating"}, "needs rating"),
        ({"kind": "rating", "rating": 2}, "rating"),
        ({"kind": "rating", "rating": 1, "correction": "x"}, "has no correction"),
        ({"kind": "correction"}, "needs correction"),
        ({"kind": "correction", "correction": "  "}, "correction is empty"),
        ({"kind": "correction", "correction": "x", "rejected": "y"}, "has no rejected"),
        ({"kind": "preference"}, "needs correction or rejected"),
        ({"kind": "praise"}, "kind"),
        ({"kind": "rating", "raiting": 1}, "did you mean 'rating'"),
    ],
)
def test_feedback_that_does_not_fit_its_kind_is_refused(given, problem):
    with pytest.raises(ConfigError, match=problem):
        parse_settings(GivenFeedback, given, where="feedback")


def test_a_correction_that_changes_nothing_is_refused(workspace, serve):
    request = serve("Where is my card?", completion="card_arrival")
    with pytest.raises(ConfigError, match="equals what was served"):
        record(workspace, request.id, GivenFeedback(kind="correction", correction="card_arrival"), author="a")
    with pytest.raises(ConfigError, match="same text"):
        record(workspace, request.id, GivenFeedback(kind="preference", correction="card_arrival"), author="a")


def test_a_failed_request_can_be_corrected_but_not_rated(workspace, serve):
    request = serve("Where is my card?", completion="", status="error")
    with pytest.raises(ConfigError, match="no answer to judge"):
        record(workspace, request.id, GivenFeedback(kind="rating", rating=1), author="a")
    with pytest.raises(ConfigError, match="no answer to judge"):
        record(workspace, request.id, GivenFeedback(kind="preference", correction="b"), author="a")
    record(workspace, request.id, GivenFeedback(kind="correction", correction="card_arrival"), author="a")


def test_a_request_without_kept_text_can_be_rated_and_corrected_but_not_compared(workspace, serve):
    request = serve([], completion="")
    for given in ({"correction": "card_arrival"}, {"rejected": "refund"}):
        with pytest.raises(ConfigError, match="was not kept"):
            record(workspace, request.id, GivenFeedback(kind="preference", **given), author="a")
    assert workspace.feedback.list() == []
    record(workspace, request.id, GivenFeedback(kind="rating", rating=1), author="a")
    record(workspace, request.id, GivenFeedback(kind="correction", correction="card_arrival"), author="a")
