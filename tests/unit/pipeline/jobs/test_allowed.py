"""What a job may set: one list, complete, and bounds that hold."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tunery.api.config import ServerSettings
from tunery.core.config import parse_settings
from tunery.core.errors import ConfigError, ForbiddenError
from tunery.core.job import Job
from tunery.core.training import BaseModelInfo
from tunery.gate.rules import GateConfig, GateRule
from tunery.pipeline.jobs.allowed import LIMITED, MAY_SET, THE_SERVERS, JobLimits, JobTerms, check_sections
from tunery.pipeline.jobs.files import store_training_file
from tunery.pipeline.jobs.openai_job import JobBody, new_job
from tunery.pipeline.recipe import Recipe
from tunery.store.workspace import Workspace

INFO = BaseModelInfo(name="tiny", path="/bases/tiny", sha256="0" * 64, parameters=1)
ROW = '{"prompt": "what is %d?", "completion": "a number"}\n'


def leaves(schema: Mapping[str, Any], node: Mapping[str, Any], path: str = "") -> Iterator[str]:
    """Yield the dotted path of every setting below a group of the recipe's schema."""
    groups = [
        schema["$defs"][option["$ref"].rpartition("/")[2]]
        for option in (node, *node.get("anyOf", ()), *node.get("oneOf", ()))
        if "$ref" in option
    ]
    inner = [group for group in groups if group.get("properties")] or ([node] if "properties" in node else [])
    if path in MAY_SET | set(THE_SERVERS) or not inner:
        yield path
        return
    for group in inner:
        for name, value in group["properties"].items():
            yield from leaves(schema, value, f"{path}.{name}" if path else name)


def job_from(workspace: Workspace, *, limits: JobLimits | None = None, **fields: Any) -> Job:
    def write(path: Path) -> None:
        path.write_text("".join(ROW % i for i in range(12)), encoding="utf-8")

    file = store_training_file(workspace, "rows.jsonl", write)
    body = JobBody.model_validate({"model": "tiny", "training_file": file.id, **fields})
    return new_job(
        body,
        workspace,
        INFO,
        base_spec="tiny",
        submitted_by="key",
        terms=JobTerms(limits=limits or JobLimits()),
    )


def test_every_setting_of_a_recipe_is_either_a_jobs_or_the_servers() -> None:
    schema = Recipe.model_json_schema()
    found = set(leaves(schema, schema))
    assert found == MAY_SET | set(THE_SERVERS)
    assert not MAY_SET & set(THE_SERVERS)
    assert set(LIMITED) | {"full_fine_tuning", "chat_template"} == set(JobLimits.model_fields)
    assert set(LIMITED.values()) <= MAY_SET


def test_no_setting_that_a_job_brings_names_a_place() -> None:
    """Whatever the server would open, create or append to is the operator's."""
    words = ("path", "file", "mapping", "folder", "dir", "url", "source", "scores", "edits", "references")
    # json_schema and stratify hold text that is looked up in the rows, never opened.
    assert [name for name in MAY_SET if any(word in name.rpartition(".")[2] for word in words)] == []


@pytest.mark.parametrize(
    ("sections", "param"),
    [
        ({"data": {"clean": {"pii_mapping": "/tmp/x"}}}, "tunery.data.clean.pii_mapping"),
        ({"data": {"edits": ["/etc/passwd"]}}, "tunery.data.edits"),
        ({"data": {"sources": [{"path": "/etc/passwd"}]}}, "tunery.data.sources"),
        ({"data": {"sources": {"path": "/etc/passwd"}}}, "tunery.data.sources"),
        ({"data": {"select": {"rows": 3, "scores": "/x"}}}, "tunery.data.select.rows"),
        ({"inspect": {"references": ["/etc/passwd"]}}, "tunery.inspect.references"),
        ({"evaluate": {"suites": {"a": {"source": {"path": "/x"}}}}}, "tunery.evaluate.suites.a"),
        ({"evaluate": {"engine": {"device": "cuda:7"}}}, "tunery.evaluate.engine.device"),
        ({"train": {"device": "cuda:1"}}, "tunery.train.device"),
        ({"train": {"start_from": {"method": "sft"}}}, "tunery.train.start_from"),
        ({"train": {"output": "/tmp/x"}}, "tunery.train"),
        ({"data": {"filters": {"words": {"list": "/etc/passwd"}}}}, "tunery.data.filters.words"),
        ({"base": "/etc"}, "tunery.base"),
        ({"train": "x"}, "tunery.train"),
        ({"evaluate": "x"}, "tunery.evaluate"),
        ({"data": 3}, "tunery.data"),
        ({"data": {"clean": ["x"]}}, "tunery.data.clean"),
        ({"gate": [1]}, "tunery.gate"),
        ({"deploy": {"canary": "now"}}, "tunery.deploy.canary"),
        ({"nothing": {}}, "tunery"),
        ({"": "x"}, "tunery"),
    ],
)
def test_what_is_not_a_jobs_is_refused_with_its_name(
    workspace: Workspace, sections: dict[str, Any], param: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        job_from(workspace, tunery=sections)
    assert str(caught.value.param).startswith(param.rpartition(".")[0] if param.count(".") > 1 else param)
    assert caught.value.http_status == 400


def test_sections_that_are_null_are_left_out(workspace: Workspace) -> None:
    check_sections({"train": None, "data": {"clean": None}})
    job_from(workspace, tunery={"train": None, "gate": None})


@pytest.mark.parametrize(("limit", "path"), sorted(LIMITED.items()))
def test_a_job_is_no_larger_than_the_operator_allows(workspace: Workspace, limit: str, path: str) -> None:
    least = {"max_tokens": 8, "micro_batch_tokens": 16, "max_shot_tokens": 16}.get(limit, 1)
    limits = JobLimits.model_validate({limit: least})
    section, _, rest = path.partition(".")
    value: Any = least + 1
    for part in reversed(rest.split(".")):
        value = {part: value}
    if limit == "micro_batch_size":
        value["batch_size"] = 2
    with pytest.raises(ConfigError, match=rf"at most {least} \(job_limits\.{limit}\)"):
        job_from(workspace, limits=limits, tunery={section: value})


def test_the_bounds_hold_for_openais_own_fields(workspace: Workspace) -> None:
    with pytest.raises(ConfigError, match=r"train\.epochs is 1,000") as caught:
        job_from(workspace, hyperparameters={"n_epochs": 1000})
    assert caught.value.param == "hyperparameters.n_epochs"


def test_auto_stays_within_what_the_operator_allows(workspace: Workspace) -> None:
    asked = {"n_epochs": "auto"}
    with pytest.raises(ConfigError, match=r"train\.epochs is auto, which chooses up to 8; .* at most 3"):
        job_from(workspace, limits=JobLimits(epochs=3), hyperparameters=asked)
    job_from(workspace, limits=JobLimits(epochs=8), hyperparameters=asked)


def test_an_unknown_hyperparameter_is_refused(workspace: Workspace) -> None:
    with pytest.raises(ConfigError, match=r"hyperparameters\.n_epoch is none of") as caught:
        job_from(workspace, hyperparameters={"n_epoch": 2})
    assert "n_epochs" in caught.value.message
    job_from(workspace, hyperparameters={"beta": "auto"})


def test_rules_that_nothing_could_satisfy_are_refused_at_once(workspace: Workspace) -> None:
    with pytest.raises(ConfigError, match="suite 'x' is not measured"):
        job_from(workspace, tunery={"gate": {"rules": [{"metric": "exact_match", "no_regression_on": "x"}]}})
    with pytest.raises(ConfigError, match="all baselines are switched off"):
        job_from(workspace, tunery={"evaluate": {"baseline": {"zero_shot": False, "few_shot": False}}})


def test_the_operators_rules_are_a_floor(workspace: Workspace) -> None:
    terms = ServerSettings.model_validate(
        {"job_gate": {"rules": [{"metric": "exact_match", "at_least": 0.8}]}}
    ).job_terms
    for tunery in ({}, {"gate": {"rules": [{"metric": "exact_match", "at_least": 0}]}}):
        bare = job_from(workspace, tunery=tunery)
        body = JobBody.model_validate({**bare.request})
        held = new_job(body, workspace, INFO, base_spec="tiny", submitted_by="key", terms=terms)
        rules = Recipe.model_validate(held.recipe).gate.rules
        assert rules[-1] == GateRule(metric="exact_match", at_least=0.8)
        assert len(rules) == 2
        assert not held.keep_refused
        assert bare.keep_refused is (not tunery)


def test_a_job_cannot_step_under_the_operators_floor(workspace: Workspace) -> None:
    floor = GateConfig(rules=(GateRule(metric="exact_match", gain_over="zero_shot", by=0.05),)).rules

    def held(**sections: Any) -> Recipe:
        body = JobBody.model_validate({**job_from(workspace, tunery=sections).request})
        terms = JobTerms(floor=floor)
        job = new_job(body, workspace, INFO, base_spec="tiny", submitted_by="key", terms=terms)
        return Recipe.model_validate(job.recipe)

    # Weaker rules of the same metric, or the same rule, stand beside it and not in its place.
    weaker = {"metric": "exact_match", "gain_over": "zero_shot", "by": 0}
    assert held(gate={"rules": [weaker]}).gate.rules[-1] == floor[0]
    same = floor[0].model_dump(mode="json", exclude_defaults=True)
    assert held(gate={"rules": [same]}).gate.rules == floor
    with pytest.raises(ConfigError, match="zero_shot"):  # what it compares with cannot be left out
        held(
            evaluate={"baseline": {"zero_shot": False}},
            gate={"rules": [{"metric": "exact_match", "at_least": 0}]},
        )
    with pytest.raises(ConfigError, match="how many rows"):
        held(evaluate={"limit": 1})
    with pytest.raises(ConfigError, match=r"gate\.alpha"):
        held(gate={"alpha": 0.99})


def test_a_floor_says_what_it_measures() -> None:
    with pytest.raises(ConfigError, match=r"job_gate\.rules\[0\] names no metric"):
        parse_settings(ServerSettings, {"job_gate": {"rules": [{"at_least": 0.8}]}}, where="serve")


def test_a_models_name_belongs_to_the_key_that_made_it(workspace: Workspace) -> None:
    names = workspace.model_names
    names.claim("bot", "alice")
    names.claim("bot", "alice")
    with pytest.raises(ForbiddenError, match="belongs to somebody else"):
        names.claim("bot", "mallory")
    names.give("bot", "bob")
    names.claim("bot", "bob")
    with pytest.raises(ForbiddenError):
        names.claim("bot", "alice")
    assert workspace.models.names() == []


def test_a_job_names_a_template_where_the_operator_lets_it_and_never_a_file(workspace: Workspace) -> None:
    allowed = JobLimits(chat_template=True)
    job = job_from(workspace, limits=allowed, tunery={"chat_template": "alpaca"})
    assert job.recipe["chat_template"] == "alpaca"
    with pytest.raises(ConfigError, match="its base's own template alone"):
        job_from(workspace, tunery={"chat_template": "alpaca"})
    for place in ("/etc/passwd.jinja", "mine.jinja", ["alpaca"], {"path": "x"}, 1):
        with pytest.raises(ConfigError) as refused:
            job_from(workspace, limits=allowed, tunery={"chat_template": place})
        assert refused.value.param == "tunery.chat_template"
