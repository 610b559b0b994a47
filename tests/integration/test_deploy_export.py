"""Deployment folders: whole or not there, names as literals, files that their readers take."""

from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from tests.fixtures_cli import Tunery, home, tunery
from tests.integration.live_api import register
from tunery.core.errors import ConfigError, ConflictError, GateFailed, NotFoundError
from tunery.deploy.targets import target_names, target_of
from tunery.pipeline.deployment import planned_deployment, write_deployment
from tunery.store.workspace import Workspace

__all__ = ["home", "tunery"]
NASTY = 'Say "hi" \\ {{ name }} \'\'\' """ ${HOME} ü'
SERVING = [name for name in target_names() if target_of(name).serves]


@pytest.fixture
def registered(workspace: Workspace, tiny_model: Path, tiny_adapters: dict[str, Path]) -> Workspace:
    register(workspace, tiny_model, tiny_adapters["a"], "support_bot", system_prompt=NASTY)
    return workspace


def assigned(source: str) -> dict[str, Any]:
    """Return what a module's top gives to names in capitals, as values."""
    found = {}
    for node in ast.parse(source).body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            try:
                found[node.targets[0].id] = ast.literal_eval(node.value)
            except ValueError:
                continue
    return found


@pytest.mark.parametrize("target", SERVING)
def test_a_versions_folder_holds_its_weights_and_files_that_parse(
    registered: Workspace, tmp_path: Path, target: str
) -> None:
    import torch
    from safetensors.torch import load_file

    seen: list[Path] = []
    planned = planned_deployment(registered, target, "support_bot", replicas=2)
    written = write_deployment(registered, target, tmp_path / "out", planned, check=seen.append)
    assert planned.name == "support-bot-v1"
    assert len(seen) == 1  # the weights were there to be measured before they were kept
    weights = load_file(next((written.folder / "model").glob("*.safetensors")))
    assert all(torch.isfinite(tensor).all() for tensor in weights.values())
    assert (written.folder / "model" / "config.json").exists()
    programs = list(written.folder.glob("*.py"))
    assert len(programs) == 1
    source = programs[0].read_text(encoding="utf-8")
    compile(source, str(programs[0]), "exec")
    told = assigned(source)
    window = json.loads((written.folder / "model" / "config.json").read_text())["max_position_embeddings"]
    assert (told["NAME"], told["SERVED_NAME"], told["WINDOW"]) == ("support-bot-v1", "support_bot", window)
    assert planned.machine in source
    readme = (written.folder / "README.md").read_text(encoding="utf-8")
    assert NASTY in readme
    assert "{{" not in readme.replace(NASTY, "")
    if written.price is None:
        assert "price list" in written.cost
    else:
        assert "list price as of" in written.cost
        assert written.price.source in written.cost


def test_the_endpoint_is_made_with_arguments_that_the_hubs_client_takes(
    registered: Workspace, tmp_path: Path
) -> None:
    import inspect

    from huggingface_hub import create_inference_endpoint

    planned = planned_deployment(registered, "hf-endpoint", "support_bot")
    folder = write_deployment(registered, "hf-endpoint", tmp_path / "out", planned).folder
    calls = [
        node
        for node in ast.walk(ast.parse((folder / "deploy.py").read_text()))
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "create_inference_endpoint"
    ]
    assert {k.arg for k in calls[0].keywords} <= set(inspect.signature(create_inference_endpoint).parameters)


def test_weights_that_are_refused_leave_nothing_behind(registered: Workspace, tmp_path: Path) -> None:
    def refuse(folder: Path) -> None:
        raise GateFailed(f"{folder.name} is worse")

    planned = planned_deployment(registered, "modal", "support_bot@1")
    with pytest.raises(GateFailed):
        write_deployment(registered, "modal", tmp_path / "out", planned, check=refuse)
    assert list(tmp_path.glob("out*")) == []


def test_what_does_not_fit_the_target_is_refused_with_what_does(
    registered: Workspace, tmp_path: Path
) -> None:
    with pytest.raises(NotFoundError, match="did you mean 'modal'"):
        planned_deployment(registered, "modal2", "support_bot")
    with pytest.raises(ConfigError, match="serves one version"):
        planned_deployment(registered, "modal", None)
    with pytest.raises(ConfigError, match="runs the platform"):
        planned_deployment(registered, "kubernetes", "support_bot")
    with pytest.raises(ConfigError, match="no machine 'T5'") as refused:
        planned_deployment(registered, "modal", "support_bot", machine="T5")
    assert "L4" in str(refused.value.hint)
    with pytest.raises(ConfigError, match="cannot name a deployment"):
        planned_deployment(registered, "modal", "support_bot", name="a\nb: c")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").write_text("mine")
    with pytest.raises(ConflictError):
        write_deployment(
            registered, "kubernetes", tmp_path / "full", planned_deployment(registered, "kubernetes", None)
        )


def test_manifests_are_valid_kubernetes_without_a_secret_in_them(
    workspace: Workspace, tmp_path: Path
) -> None:
    planned = planned_deployment(workspace, "kubernetes", None, replicas=3, name="models")
    folder = write_deployment(workspace, "kubernetes", tmp_path / "k8s", planned).folder
    kustomization = yaml.safe_load((folder / "kustomization.yaml").read_text())
    assert {p.name for p in folder.glob("*.yaml")} == {*kustomization["resources"], "kustomization.yaml"}
    documents = [
        d for name in kustomization["resources"] for d in yaml.safe_load_all((folder / name).read_text())
    ]
    for document in documents:
        kubernetes_validate.validate(document, "1.33", strict=True)
    by_name = {(d["kind"], d["metadata"]["name"]): d for d in documents}
    gateway = by_name["Deployment", "gateway"]["spec"]
    assert gateway["replicas"] == 3
    pod = gateway["template"]["spec"]
    assert pod["terminationGracePeriodSeconds"] > 25  # grace_s, or the end of answers would be cut off
    assert all(d["kind"] != "Secret" for d in documents)
    for line in (folder / "secrets.env").read_text().splitlines():
        assert line.startswith(("#", "TUNERY_")) or line.endswith("=")


def test_the_arguments_of_the_gateways_manifest_are_settings_of_serve(
    workspace: Workspace, tmp_path: Path
) -> None:
    from tunery.api.config import ServerSettings
    from tunery.core.config import apply_overrides, parse_settings

    planned = planned_deployment(workspace, "kubernetes", None)
    folder = write_deployment(workspace, "kubernetes", tmp_path / "k8s", planned).folder
    for name in ("gateway", "worker"):
        documents = yaml.safe_load_all((folder / f"{name}.yaml").read_text())
        pod = next(d for d in documents if d["kind"] == "Deployment")["spec"]["template"]["spec"]
        command, *given = pod["containers"][0]["args"]
        assert command == "serve"
        options = dict(g.removeprefix("--").split("=", 1) for g in given if g.startswith("--"))
        settings = apply_overrides({**options}, [g for g in given if not g.startswith("--")])
        parsed = parse_settings(ServerSettings, settings, where="serve")
        assert parsed.run_jobs is (name == "worker")


def test_the_command_writes_a_folder_and_says_what_an_hour_costs(tunery: Tunery, tmp_path: Path) -> None:
    told = tunery("deploy", "export", "--target", "ray-serve", "--to", str(tmp_path / "ray"), "--json")
    assert told.json["usd_per_hour"] is None
    compile((tmp_path / "ray" / "app.py").read_text(), "app.py", "exec")
    assert "serve run app:gateway" in told.json["next_step"]
