"""The table of routes and roles: nothing is forgotten, and what is forgotten is closed."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi import APIRouter
from fastapi.routing import APIRoute, iter_route_contexts

from tunery.api import routes
from tunery.api.app import create_app
from tunery.api.config import ServerSettings
from tunery.api.json_route import JsonRoute
from tunery.api.roles import ROUTES, access_of, require
from tunery.core.access import ROLES, Caller, allows
from tunery.core.errors import ForbiddenError
from tunery.core.training import BaseModelInfo
from tunery.pipeline.gateway.bases import BasePool, Opened
from tunery.store.workspace import Workspace

NOTHING_CHANGED = {
    "POST /uploads",
    "POST /uploads/{upload_id}/parts",
    "POST /uploads/{upload_id}/cancel",
    "POST /fine_tuning/alpha/graders/validate",
    "POST /fine_tuning/alpha/graders/run",
}
"""What computes, and steps to a change that is written down when it takes place."""
ANOTHERS = {"datasets", "adapters", "evaluations", "gates", "runs", "database", "root", "projects", "whole"}
"""What of a workspace is the home's and no project's: a route that touches it shows it to everybody."""


_OPEN = {"/health", "/health/live", "/metrics", "/openapi.json", "/version"}
"""What answers the same to everybody."""


def unused(info: BaseModelInfo) -> Opened:
    raise AssertionError("no model is needed here")


@pytest.fixture
def served(workspace: Workspace) -> list[JsonRoute]:
    """Every route of the app that answers for a project."""
    info = BaseModelInfo(name="tiny", sha256="0" * 64, path="/nowhere", parameters=1)
    app = create_app(workspace, BasePool(info, unused, max_adapters=1), ServerSettings(run_jobs=False))
    app.state.services.log.close()
    routes = [context.original_route for context in iter_route_contexts(app.routes)]
    return [r for r in routes if isinstance(r, APIRoute) and r.path not in _OPEN]


def test_every_route_is_in_the_table_and_passes_its_check(served: list[JsonRoute]) -> None:
    found = {f"{method} {route.path_format}" for route in served for method in route.methods}
    assert found == set(ROUTES), "a new route: say in tunery/api/roles.py which role it needs"
    assert all(isinstance(route, JsonRoute) and len(route.methods) == 1 for route in served)


def test_reading_never_needs_a_change_to_be_written_and_changing_does(served: list[JsonRoute]) -> None:
    for name, access in ROUTES.items():
        if name.startswith("GET "):
            assert access.change is None, name
        elif access.role != "infer" and name not in NOTHING_CHANGED:
            assert access.change is not None, name
        else:
            assert access.role in ROLES


def test_a_route_that_nobody_thought_of_is_for_admins_and_is_written_down() -> None:
    assert access_of("POST", "/new") == ("admin", "POST /new")
    assert access_of("GET", "/new") == ("admin", None)
    router = APIRouter(route_class=JsonRoute)
    router.get("/new")(lambda: {})
    assert isinstance(router.routes[0], JsonRoute)


@pytest.mark.parametrize("role", ROLES)
def test_a_refusal_names_the_role_that_is_needed(role: str) -> None:
    caller = Caller("acme", role, "key-1", "ann")  # type: ignore[arg-type]
    for access in ROUTES.values():
        if allows(caller.role, access.role):
            require(caller, access)
        else:
            with pytest.raises(ForbiddenError, match=rf"the role {access.role}; ann has the role {role}"):
                require(caller, access)


def attributes_of_workspaces(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            owner = node.value
            name = owner.attr if isinstance(owner, ast.Attribute) else getattr(owner, "id", "")
            if name == "workspace":
                yield node.attr


def test_no_route_looks_past_its_project() -> None:
    files = sorted(Path(next(iter(routes.__path__))).glob("*.py"))
    assert len(files) > 8
    for file in files:
        tree = ast.parse(file.read_text(encoding="utf-8"))
        assert not ANOTHERS & set(attributes_of_workspaces(tree)), file.name
        names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
        assert not names & {"Everything", "AllServices"}, file.name
        kept = {
            node.attr
            for node in ast.walk(tree)
            if isinstance(node, ast.Attribute)
            and isinstance(node.value, ast.Attribute)
            and node.value.attr == "gateway"
        }
        # What may be used takes the caller and is of its project by that.
        assert kept <= {"start", "meter"}, file.name


def test_the_look_at_routes_sees_one_that_does() -> None:
    tree = ast.parse("def route(shared): return shared.workspace.runs.list()")
    assert set(attributes_of_workspaces(tree)) & ANOTHERS
