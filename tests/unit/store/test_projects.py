"""One project's view of a workspace: what belongs to another does not exist in it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.unit.store import samples
from tunery.core.errors import ConflictError, ForbiddenError, NotFoundError, TuneryError
from tunery.core.registry import Override
from tunery.store.requests import Chosen
from tunery.store.workspace import Workspace


@pytest.fixture
def ours(workspace: Workspace) -> Workspace:
    return workspace.of("acme")


@pytest.fixture
def theirs(workspace: Workspace) -> Workspace:
    """The view of a project to which everything in the home belongs."""
    other = workspace.of("umbrella")
    other.files.add(samples.stored_file("file-theirs"))
    other.jobs.create(samples.job("ftjob-theirs"))
    other.jobs.add_event("ftjob-theirs", "hello")
    other.jobs.add_checkpoint("ftjob-theirs", 1, {})
    other.models.register(samples.version("bot"))
    other.models.register(samples.version("bot"))
    other.models.set_alias("bot", "champion", 1, actor="a", reason="r")
    other.rollouts.add(samples.rollout("rollout-theirs", name="bot"))
    other.requests.add(samples.request("chatcmpl-theirs"))
    other.feedback.add(samples.feedback("fb-theirs", request_id="chatcmpl-theirs"))
    return other


def the_error(call: Callable[[], object]) -> tuple[type[TuneryError], str, str | None, str | None]:
    with pytest.raises(TuneryError) as caught:
        call()
    error = caught.value
    return type(error), error.message, error.hint, error.param


CALLS: dict[str, Callable[[Workspace, str], Any]] = {
    "file": lambda w, x: w.files.get(f"file-{x}"),
    "a changed file": lambda w, x: w.files.update(f"file-{x}", status="error"),
    "a deleted file": lambda w, x: w.files.delete(f"file-{x}"),
    "files after it": lambda w, x: w.files.page(after=f"file-{x}"),
    "job": lambda w, x: w.jobs.get(f"ftjob-{x}"),
    "a cancelled job": lambda w, x: w.jobs.request_cancel(f"ftjob-{x}"),
    "a resumed job": lambda w, x: w.jobs.resume(f"ftjob-{x}"),
    "its events": lambda w, x: w.jobs.events(f"ftjob-{x}"),
    "its checkpoints": lambda w, x: w.jobs.checkpoints(f"ftjob-{x}"),
    "a line of its log": lambda w, x: w.jobs.add_event(f"ftjob-{x}", "mine"),
    "jobs after it": lambda w, x: w.jobs.page(after=f"ftjob-{x}"),
    "rollout": lambda w, x: w.rollouts.get(f"rollout-{x}"),
    "an ended rollout": lambda w, x: w.rollouts.finish(f"rollout-{x}", "cancelled", "r", "a"),
    "rollouts after it": lambda w, x: w.rollouts.page(after=f"rollout-{x}"),
    "request": lambda w, x: w.requests.get(f"chatcmpl-{x}"),
    "a forgotten request": lambda w, x: w.requests.forget(f"chatcmpl-{x}", samples.NOON),
    "requests after it": lambda w, x: w.requests.heads(after=f"chatcmpl-{x}"),
    "feedback": lambda w, x: w.feedback.get(f"fb-{x}"),
    "reviewed feedback": lambda w, x: w.feedback.review(f"fb-{x}", accepted=True, reviewer="a"),
    "feedback on it": lambda w, x: w.feedback.add(samples.feedback("fb-new", request_id=f"chatcmpl-{x}")),
    "feedback after it": lambda w, x: w.feedback.page(after=f"fb-{x}"),
}


def test_what_is_anothers_is_refused_as_what_was_never_there(ours: Workspace, theirs: Workspace) -> None:
    for what, call in CALLS.items():
        kind, message, hint, param = the_error(lambda call=call: call(ours, "theirs"))
        never = the_error(lambda call=call: call(ours, "nobody"))
        assert (kind, message.replace("theirs", "nobody"), hint, param) == never, what
    assert theirs.files.get("file-theirs").status == "processed"
    assert theirs.jobs.get("ftjob-theirs").status == "queued"
    assert theirs.rollouts.get("rollout-theirs").status == "running"
    assert theirs.feedback.get("fb-theirs").status == "pending"


MODEL_CALLS: dict[str, Callable[[Workspace, str], Any]] = {
    "version": lambda w, name: w.models.get(name, 1),
    "a deleted version": lambda w, name: w.models.delete(name, 2),
    "a moved alias": lambda w, name: w.models.set_alias(name, "champion", 2, actor="a", reason="r"),
    "an alias taken away": lambda w, name: w.models.remove_alias(name, "champion", actor="a", reason="r"),
    "a rollback": lambda w, name: w.models.restore_alias(name, "champion", current=1, actor="a", reason="r"),
    "an overridden gate": lambda w, name: w.models.override(
        name, 1, Override(by="a", reason="r", at=samples.NOON)
    ),
    "a given name": lambda w, name: w.model_names.give(name, "key"),
    "a moved name": lambda w, name: w.model_names.move(name, "acme"),
    "a shared name": lambda w, name: w.model_names.share(name, "acme"),
    "a name no longer shared": lambda w, name: w.model_names.unshare(name, "acme"),
}


def test_anothers_model_is_refused_as_one_that_was_never_there(ours: Workspace, theirs: Workspace) -> None:
    for what, call in MODEL_CALLS.items():
        kind, message, hint, param = the_error(lambda call=call: call(ours, "bot"))
        never = the_error(lambda call=call: call(ours, "xyz"))
        assert kind is NotFoundError, what
        assert (kind, message.replace("bot", "xyz"), hint, param) == never, what
    assert theirs.models.aliases("bot") == {"champion": 1}
    assert [v.version for v in theirs.models.list("bot")] == [2, 1]


def test_no_list_names_what_is_anothers(ours: Workspace, theirs: Workspace) -> None:
    for view, count in ((ours, 0), (theirs, 1)):
        lists = (view.files, view.jobs, view.rollouts, view.requests, view.feedback)
        assert [len(records.list()) for records in lists] == [count] * 5
        assert len(view.requests.heads().items) == count
        assert len(view.models.names()) == count
        assert len({head.name for head in view.models.heads()}) == count
        assert len(view.models.moves("bot")) == count
    assert ours.models.aliases("bot") == {}
    assert ours.rollouts.running("bot") is None
    assert list(ours.requests.chosen_ids(Chosen())) == []


def test_a_purge_takes_a_projects_own_calls(ours: Workspace, theirs: Workspace) -> None:
    ours.requests.add(samples.request("chatcmpl-ours"))
    assert ours.requests.purge(Chosen(), texts_only=False).requests == 1
    assert theirs.requests.get("chatcmpl-theirs").messages
    with pytest.raises(ValueError, match="all projects"):
        ours.requests.expire_texts(samples.NOON)


def test_what_is_stored_through_a_view_belongs_to_its_project(workspace: Workspace, ours: Workspace) -> None:
    assert ours.files.add(samples.stored_file("file-1")).project == "acme"
    assert ours.jobs.create(samples.job("ftjob-1", project="umbrella")).project == "acme"
    assert ours.keys.create("ann", "infer").key.project == "acme"
    assert workspace.keys.create("bob").key.project == "default"
    assert workspace.jobs.get("ftjob-1").project == "acme"
    assert [key.name for key in workspace.keys.list()] == ["bob", "ann"]
    assert [key.name for key in ours.keys.list()] == ["ann"]


def test_a_view_shows_no_other_project(ours: Workspace) -> None:
    assert ours.of("acme") is ours
    with pytest.raises(ValueError, match="sees nothing"):
        ours.of("umbrella")


def test_a_name_that_is_taken_does_not_tell_by_whom(workspace: Workspace, theirs: Workspace) -> None:
    ours, default = workspace.of("acme"), workspace.of("default")
    ours.model_names.claim("mine", "ann")
    errors = {
        the_error(lambda: ours.model_names.claim("bot", "ann")),  # another project's
        the_error(lambda: default.model_names.claim("bot", "ann")),
        tuple(
            part.replace("mine", "bot") if isinstance(part, str) else part
            for part in the_error(lambda: ours.model_names.claim("mine", "bob"))  # another key's
        ),
    }
    assert len(errors) == 1
    with pytest.raises(ForbiddenError):
        ours.models.register(samples.version("bot"))
    assert [v.version for v in theirs.models.list("bot")] == [2, 1]
    assert theirs.models.register(samples.version("bot")).version == 3  # no number was used up


def test_a_shared_name_can_be_seen_and_not_changed(ours: Workspace, theirs: Workspace) -> None:
    theirs.model_names.share("bot", "acme")
    theirs.model_names.share("bot", "acme")
    assert ours.models.get("bot", 1) == theirs.models.get("bot", 1)
    assert ours.models.aliases("bot") == {"champion": 1}
    assert ours.rollouts.running("bot") is None  # the owner's experiment is not on those it shares with
    for name, call in MODEL_CALLS.items():
        if name != "version":
            with pytest.raises(ForbiddenError, match="belongs to another project"):
                call(ours, "bot")
    with pytest.raises(ForbiddenError):
        ours.rollouts.add(samples.rollout("rollout-mine", name="bot", status="cancelled"))
    with pytest.raises(ForbiddenError):
        ours.models.register(samples.version("bot"))
    assert [tuple(s) for s in theirs.model_names.shares()] == [("bot", "acme")]
    assert ours.model_names.shares() == []
    theirs.model_names.unshare("bot", "acme")
    assert ours.models.find("bot", 1) is None


def test_the_operator_moves_a_name_to_another_project(workspace: Workspace, theirs: Workspace) -> None:
    workspace.model_names.share("bot", "acme")
    workspace.model_names.move("bot", "acme")
    assert workspace.model_names.project_of("bot") == "acme"
    assert theirs.models.names() == []
    assert workspace.of("acme").rollouts.running("bot") is not None
    assert workspace.model_names.shares() == []


def test_the_default_project_is_there_from_the_start(workspace: Workspace) -> None:
    assert workspace.projects.require("default") == "default"
    made = workspace.projects.create("acme", "of tests")
    assert workspace.projects.require("acme") == "acme"
    assert workspace.projects.list() == [made]
    for taken in ("acme", "default"):
        with pytest.raises(ConflictError, match="already"):
            workspace.projects.create(taken)
    with pytest.raises(NotFoundError, match=r"did you mean 'acme'.*there is: acme, default"):
        workspace.projects.require("acne")
