"""Drop reasons in a sentence each, for people; those of filters stand in the filters' own files."""

from __future__ import annotations

from tunery.data.filters.filters import filter_reasons

_REASONS = {
    # Reading: what a row or a record of traffic is.
    "bad_row": "could not be understood; its detail says which field, and what to do",
    "no_trained_turn": "every assistant turn has weight 0, so there is nothing to learn",
    "prompts_differ": "the two answers of the pair belong to different conversations",
    "not_reviewed": "nobody submitted an answer",
    "reviewers_disagree": "reviewers gave different answers, none of them more often than the others",
    "request_failed": "the request ended in an error",
    "answer_cut": "the answer was cut or stopped before its end",
    "text_not_kept": "the log kept no text of the request",
    "content_not_captured": "the trace holds no prompt or no answer",
    "format_invalid": "the answer had not the form that was required of it",
    "tool_call": "calls a tool in a form that cannot be read",
    "not_text": "holds something other than text",
    "consent_refused": "its user did not agree to training",
    "no_consent": "nothing says that its user agreed to training",
    "not_sampled": "not in the share of requests that the recipe takes",
    "user_over_limit": "its user gave as many rows as the recipe takes of one user",
    # Curation: how a row stands to the others.
    "over_limit": "beyond the number of rows that the recipe asks for",
    "exact_duplicate": "repeats another row but for case, spacing and marks that mean nothing",
    "near_duplicate": "says nearly what another row says, with the same answer",
    "held_out_elsewhere": "resembles a row that went to another split",
    "seed_held_out": "was written after a row that is held out",
    "not_selected": "not among the training rows that the recipe selects",
    "review": "a reviewer took it out",
}
_BY_EDIT = "an edit in the recipe took it out"


def meaning(reason: str) -> str:
    """Return what a drop reason means; one that only an edit gives is named by whoever made the edit."""
    return {**_REASONS, **filter_reasons()}.get(reason, _BY_EDIT)
