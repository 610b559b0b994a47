"""The report for machines and pull requests: parsed by what will read it."""

from __future__ import annotations

import dataclasses
import json
import re
from xml.etree import ElementTree

import pytest
from markdown_it import MarkdownIt
from markdown_it.token import Token

from tests.unit.report import report_samples as samples
from tunery.core.evaluation import Prediction
from tunery.core.evidence import Evidence
from tunery.core.figures import metric_value
from tunery.core.ids import sha256_text
from tunery.report import FORMATS, ReportInputs
from tunery.report.verdict import verdict_of

HOSTILE = (
    "a|b `tick` <script>alert(1)</script> @octocat fixes #12 \\| *bold* &lt; ![x](http://e.x/y) ]]> \x00"
)


@pytest.fixture(scope="module")
def whole() -> ReportInputs:
    return stamped(samples.whole_run())


def stamped(inputs: ReportInputs, before: str = "rules") -> ReportInputs:
    evidence = Evidence(
        tunery="0.1.0",
        recipe_sha256=sha256_text("recipe"),
        rules_sha256=sha256_text("rules"),
        rules_sha256_before=sha256_text(before),
        dataset="ds-5f0c3a9be1d24477",
        dataset_sha256=sha256_text("dataset"),
        base="smollm2-135m-instruct",
        base_sha256=sha256_text("base"),
        adapter="adapter-77d0c1b2a3e4f506",
        adapter_sha256=sha256_text("adapter"),
        gate="gate-0123456789abcdef",
        gate_sha256=sha256_text("gate"),
        evaluations={s: e.id for s, e in inputs.evaluations.items()},
        answers_sha256={s: sha256_text(s) for s in inputs.evaluations},
    )
    return dataclasses.replace(inputs, run=inputs.run.with_(evidence=evidence))


def refused() -> ReportInputs:
    return stamped(samples.whole_run({"zero_shot": 0.5, "few_shot": 0.8, "tuned": 0.6}, target=0.7))


def hostile() -> ReportInputs:
    inputs = samples.whole_run()
    spoiled = {
        subject: [
            Prediction(id=p.id, prediction=HOSTILE, reference=p.reference, correct=p.correct) for p in answers
        ]
        for subject, answers in inputs.predictions.items()
    }
    tuned = inputs.evaluations["tuned"]
    evaluations = {**inputs.evaluations, "tuned": tuned.with_(warnings=(f"a row says {HOSTILE}",))}
    return dataclasses.replace(inputs, predictions=spoiled, evaluations=evaluations)


def rendered(markdown: str) -> list[Token]:
    """Parse as GitHub does: tables, and HTML where it is written."""
    return MarkdownIt("commonmark", {"html": True}).enable("table").parse(markdown)


def words(tokens: list[Token]) -> list[str]:
    return [
        "".join(c.content for c in (t.children or []) if c.type in ("text", "code_inline", "text_special"))
        for t in tokens
        if t.type == "inline"
    ]


def junit(inputs: ReportInputs) -> ElementTree.Element:
    return ElementTree.fromstring(FORMATS["junit"](inputs))


@pytest.mark.parametrize("make", [samples.whole_run, refused, hostile])
def test_junit_counts_what_it_holds_and_every_rule_is_a_case(make) -> None:  # type: ignore[no-untyped-def]
    inputs = make()
    root = junit(inputs)
    suite = root.find("testsuite")
    assert root.tag == "testsuites"
    assert suite is not None
    cases = suite.findall("testcase")
    assert len(cases) == len(inputs.gate.rules) == int(suite.attrib["tests"]) == int(root.attrib["tests"])
    failed = [case for case in cases if case.find("failure") is not None]
    assert len(failed) == int(suite.attrib["failures"]) == sum(not r.passed for r in inputs.gate.rules)
    sentences = [case.find("failure").attrib["message"] for case in failed]  # type: ignore[union-attr]
    assert sentences == [r.sentence for r in inputs.gate.rules if not r.passed]
    assert len({(c.attrib["classname"], c.attrib["name"]) for c in cases}) == len(cases)
    assert [child.tag for child in suite] == ["properties", *["testcase"] * len(cases), "system-out"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d", suite.attrib["timestamp"])


def test_junit_of_a_run_that_failed_is_an_error(whole: ReportInputs) -> None:
    broken = dataclasses.replace(
        whole, gate=None, run=whole.run.with_(status="failed", gate_id=None, evidence=None, error="no disk")
    )
    root = junit(broken)
    assert (root.attrib["tests"], root.attrib["errors"], root.attrib["failures"]) == ("1", "1", "0")
    error = root.find("testsuite/testcase/error")
    assert error is not None
    assert error.text == "no disk"


def test_evidence_stands_in_every_format(whole: ReportInputs) -> None:
    for name, render in FORMATS.items():
        text = render(whole)
        for what, _, sha256 in whole.run.evidence.facts():  # type: ignore[union-attr]
            assert sha256 in text, (name, what)


def test_rules_that_changed_after_training_began_are_seen_in_every_format(whole: ReportInputs) -> None:
    for name, render in FORMATS.items():
        said = "not those that were fixed before training"
        assert said not in render(whole), name
        assert said in render(stamped(whole, before="other rules")), name


def test_json_holds_the_whole_evidence_and_no_secret(whole: ReportInputs) -> None:
    text = FORMATS["json"](whole)
    found = json.loads(text)
    assert found["verdict"]["sentence"] == verdict_of(whole).sentence
    assert found["evaluations"]["tuned"] == whole.evaluations["tuned"].model_dump(mode="json")
    assert found["gate"] == whole.gate.model_dump(mode="json")  # type: ignore[union-attr]
    assert found["comparisons"].keys() == whole.comparisons.keys()
    assert "hunter2" not in text
    assert "tk-very-secret" not in text


def test_a_summary_says_the_verdict_the_arms_and_every_rule() -> None:
    inputs = refused()
    text = FORMATS["markdown"](inputs)
    said = words(rendered(text))
    assert said[0] == "❌ banking77-quick"
    assert said[1] == f"Do not ship: {verdict_of(inputs).sentence}"
    for rule in inputs.gate.rules:  # type: ignore[union-attr]
        assert any(rule.sentence.replace(" ", " ") in cell for cell in said), rule.sentence
    for evaluation in inputs.evaluations.values():
        assert any(metric_value(evaluation.main) == cell for cell in said)
    assert len(text) < 65_536, "GitHub takes no longer comment"


def test_a_summary_holds_no_personal_data() -> None:
    inputs = samples.whole_run()
    answers = [p.with_(prediction="write to ann.chu@example.org") for p in inputs.predictions["tuned"]]
    text = FORMATS["markdown"](
        dataclasses.replace(inputs, predictions={**inputs.predictions, "tuned": answers})
    )
    assert "write to" in text
    assert "ann.chu" not in text


def test_what_a_model_wrote_stays_text_in_a_summary() -> None:
    text = FORMATS["markdown"](hostile())
    tokens = rendered(text)
    shown = words(tokens)
    quoted = HOSTILE.replace("`", "'").replace("\x00", "").strip()
    assert sum(quoted in cell for cell in shown) >= 10
    html = [t.content for t in tokens if t.type == "html_block"]
    html += [c.content for t in tokens for c in t.children or [] if c.type == "html_inline"]
    assert {part for block in html for part in re.findall(r"<[^>]+>", block)} <= {
        "<details>",
        "</details>",
        "<summary>",
        "</summary>",
    }
    assert not [c for t in tokens for c in t.children or [] if c.type in ("image", "link_open")]
    called = [
        c.content
        for t in tokens
        for c in t.children or []
        if c.type == "text" and re.search(r"(?<![a-z0-9])[@#]\w", c.content)
    ]
    assert called == [], "within code nobody is called; elsewhere something stands behind the sign"
    for rows in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
        widths = {len(re.findall(r"(?<!\\)\|", row)) for row in rows.splitlines()}
        assert len(widths) == 1, rows
