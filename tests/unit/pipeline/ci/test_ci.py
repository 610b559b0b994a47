"""The jobs that run the gate: what their providers will read in them."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer.testing
import yaml

from tunery.cli.main import command_line, execute
from tunery.core.errors import ConfigError, ConflictError
from tunery.pipeline.ci import job_text, to_include, write_job

RECIPE = """\
name: bot
goal: {metric: exact_match}
base: smollm2-135m-instruct
data: {sources: [{path: rows.csv}]}
"""
ODD = 'recipes/it\'s "q": \\ *x* # é.yaml'


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    (tmp_path / "recipe.yaml").write_text(RECIPE, encoding="utf-8")
    return tmp_path


def github(recipe: str = "recipe.yaml") -> dict[Any, Any]:
    return yaml.safe_load(job_text("github", recipe))


def gitlab(recipe: str = "recipe.yaml") -> dict[Any, Any]:
    return yaml.safe_load(job_text("gitlab", recipe))


def scripts() -> list[str]:
    steps = github()["jobs"]["gate"]["steps"]
    job = gitlab()["tunery-gate"]
    return [
        *(step["run"] for step in steps if "run" in step),
        *("\n".join(job[part]) for part in ("before_script", "script", "after_script")),
    ]


def test_a_workflow_is_of_githubs_shape() -> None:
    workflow = github()
    assert workflow.keys() == {
        "name",
        True,
        "permissions",
        "concurrency",
        "env",
        "jobs",
    }  # YAML 1.1 reads `on`
    assert workflow[True] == {"pull_request": None}, (
        "pull_request_target would run a fork's code with secrets"
    )
    assert workflow["permissions"] == {"contents": "read", "pull-requests": "write"}
    job = workflow["jobs"]["gate"]
    assert {"runs-on", "steps", "timeout-minutes"} <= job.keys()
    for step in job["steps"]:
        assert ("uses" in step) != ("run" in step)
        assert step.keys() <= {"uses", "run", "name", "if", "with", "env"}
        if "uses" in step:
            assert re.fullmatch(r"actions/[a-z-]+@v\d+", step["uses"])
        else:  # what others may write is handed over by the environment, never pasted into a script
            assert "${{" not in step["run"]
    reports = [
        step for step in job["steps"] if "report" in step.get("run", "") or "upload" in step.get("uses", "")
    ]
    assert len(reports) == 3
    assert all(step["if"].startswith("always()") for step in reports), (
        "a refused gate is when they matter most"
    )
    (gate,) = (step for step in job["steps"] if "tunery run" in step.get("run", ""))
    assert not gate.keys() & {"if", "continue-on-error"}


def test_a_job_is_of_gitlabs_shape() -> None:
    found = gitlab()
    assert found.keys() == {"tunery-gate"}
    job = found["tunery-gate"]
    assert job.keys() <= {
        *("image", "stage", "timeout", "rules", "variables", "cache", "before_script", "script"),
        *("after_script", "artifacts"),
    }
    assert all(isinstance(value, str) for value in job["variables"].values())
    for part in ("before_script", "script", "after_script"):
        assert all(isinstance(line, str) for line in job[part])
    assert job["script"] == ['tunery run "$RECIPE" --json > tunery-run.json'], "its exit code is the job's"
    assert job["artifacts"]["when"] == "always"
    assert job["artifacts"]["reports"]["junit"] in " ".join(job["after_script"])
    assert "allow_failure" not in job


@pytest.mark.parametrize("script", scripts())
def test_every_script_is_one_that_a_shell_reads(script: str) -> None:
    done = subprocess.run(["bash", "-n", "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_every_command_of_ours_in_the_jobs_exists() -> None:
    commands = {
        line.strip()
        for script in scripts()
        for line in script.splitlines()
        if line.strip().startswith("tunery ")
    }
    assert len(commands) >= 5
    runner = typer.testing.CliRunner()
    for command in commands:
        words = shlex.split(command)[1:]
        shown = runner.invoke(
            command_line(), [*[w for w in words if w in ("run", "evaluate", "report")], "--help"]
        )
        assert shown.exit_code == 0, command
        for option in (word for word in words if word.startswith("--")):
            assert option in shown.output, command


@pytest.mark.parametrize("provider", ["github", "gitlab"])
def test_any_path_of_a_recipe_arrives_as_it_is(provider: str) -> None:
    found = github(ODD)["env"] if provider == "github" else gitlab(ODD)["tunery-gate"]["variables"]
    assert found["RECIPE"] == ODD


def test_files_that_are_there_are_left_alone(repository: Path) -> None:
    (written,) = write_job(repository, "github", "recipe.yaml", replace=False)
    assert written == repository / ".github/workflows/tunery-gate.yml"
    written.write_text("mine", encoding="utf-8")
    with pytest.raises(ConflictError, match="there already"):
        write_job(repository, "github", "recipe.yaml", replace=False)
    assert written.read_text("utf-8") == "mine"
    write_job(repository, "github", "recipe.yaml", replace=True)
    assert "tunery run" in written.read_text("utf-8")


def test_a_gitlab_project_includes_the_job_or_is_told_how(repository: Path) -> None:
    written = write_job(repository, "gitlab", "recipe.yaml", replace=False)
    assert [path.name for path in written] == ["tunery-gate.yml", ".gitlab-ci.yml"]
    included = yaml.safe_load(written[1].read_text("utf-8"))
    assert (repository / included["include"][0]["local"]).is_file()
    assert to_include("gitlab", written, repository) is None
    written[1].write_text("stages: [test]\n", encoding="utf-8")
    again = write_job(repository, "gitlab", "recipe.yaml", replace=True)
    assert written[1].read_text("utf-8") == "stages: [test]\n", "not even by force: it is not ours"
    assert "include:" in str(to_include("gitlab", again, repository))


def test_a_recipe_that_is_wrong_or_elsewhere_is_told_at_once(repository: Path) -> None:
    for recipe in ("missing.yaml", "../recipe.yaml", "/etc/recipe.yaml", "${{ x }}.yaml"):
        with pytest.raises(ConfigError):
            write_job(repository, "github", recipe, replace=False)
    assert not (repository / ".github").exists()


def test_the_command_writes_the_file(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert execute(["ci", "init", "--provider", "github", "--folder", str(repository), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["files"] == [
        str(repository / ".github/workflows/tunery-gate.yml")
    ]
    assert execute(["ci", "init", "--provider", "github", "--folder", str(repository)]) == 4
    assert execute(["ci", "init", "--provider", "jenkins"]) == 2


@pytest.mark.parametrize("provider", ["github", "gitlab"])
def test_the_reports_are_those_of_the_run_that_was_judged_here(provider: str, tmp_path: Path) -> None:
    """A cache brings earlier runs along, so the newest may be another's."""
    writes = next(
        script for script in scripts() if "tunery-run.json" in script and "evaluate report" in script
    )
    if provider == "gitlab":
        writes = "\n".join(gitlab()["tunery-gate"]["after_script"])
    asked = tmp_path / "asked"
    (tmp_path / "tunery").write_text(f'#!/bin/sh\necho "$@" >> {asked}\ntouch summary\n', encoding="utf-8")
    (tmp_path / "tunery").chmod(0o755)
    (tmp_path / "tunery-reports").mkdir()
    (tmp_path / "tunery-reports" / "summary.md").touch()
    here = {
        "PATH": f"{tmp_path}:{Path(sys.executable).parent}:/usr/bin:/bin",
        "GITHUB_STEP_SUMMARY": "/dev/null",
    }
    for judged, calls in (("", 0), ('{"run": "run-1", "status": "refused"}', 4)):
        (tmp_path / "tunery-run.json").write_text(judged, encoding="utf-8")
        done = subprocess.run(["bash", "-e", "-c", writes], cwd=tmp_path, env=here, check=False)
        assert done.returncode == 0
        said = asked.read_text("utf-8").splitlines() if asked.exists() else []
        assert len(said) == calls
        assert all(line.startswith("evaluate report run-1 --format ") for line in said)
