"""Commands that only look something up load nothing that takes longer to load than to look it up."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = {
    "accelerate",
    "aiohttp",
    "alembic",
    "fastapi",
    "jinja2",
    "numpy",
    "openai",
    "pandas",
    "peft",
    "polars",
    "pyarrow",
    "scipy",
    "sklearn",
    "sqlalchemy",
    "torch",
    "transformers",
    "uvicorn",
}
RUN_AND_LIST_MODULES = """
import json, sys
from tunery.cli.main import execute
code = execute(sys.argv[1:])
sys.stderr.write(json.dumps({"code": code, "modules": sorted({m.partition(".")[0] for m in sys.modules})}))
"""


def modules_of(home: Path, *arguments: str) -> set[str]:
    """Run a command in a process of its own and return what it imported."""
    done = subprocess.run(
        [sys.executable, "-c", RUN_AND_LIST_MODULES, *arguments],
        env={**os.environ, "TUNERY_HOME": str(home), "TUNERY_DATABASE_URL": ""},
        capture_output=True,
        text=True,
        check=True,
    )
    told = json.loads(done.stderr)
    assert told["code"] == 0, done.stderr
    assert done.stdout
    return set(told["modules"])


def test_help_loads_neither_what_computes_nor_what_draws_nor_what_validates(tmp_path: Path) -> None:
    assert not modules_of(tmp_path, "--help") & (HEAVY | {"pydantic", "rich", "yaml", "sqlite3"})


@pytest.mark.parametrize(
    "command",
    ["registry ls", "registry ls --json", "data ls", "train ls", "evaluate ls", "runs ls", "jobs ls",
     "keys ls", "deploy ls", "feedback ls"],
)  # fmt: skip
def test_a_list_loads_the_database_and_nothing_that_computes(
    command: str, new_home: Path, tmp_path: Path
) -> None:
    # The first call makes the database; this is the usual one.
    home = shutil.copytree(new_home, tmp_path / "home")
    assert not modules_of(home, *command.split()) & HEAVY


def test_the_check_would_see_a_heavy_module() -> None:
    code = RUN_AND_LIST_MODULES.replace("code =", "import numpy; code =")
    done = subprocess.run([sys.executable, "-c", code, "--help"], capture_output=True, text=True, check=True)
    assert "numpy" in set(json.loads(done.stderr)["modules"]) & HEAVY
