"""The gate as JUnit XML, as build servers read it: a test case a rule, failed where the rule refuses."""

from __future__ import annotations

from xml.etree import ElementTree

from tunery.core.evaluation import RuleOutcome
from tunery.report.inputs import ReportInputs
from tunery.report.results import rule_as_written
from tunery.report.text import visible
from tunery.report.verdict import rule_in_words, verdict_of


def render_junit(inputs: ReportInputs) -> str:
    """Return the gate's rules as JUnit XML; a run that has no verdict is one case that ended in an error.

    Source:
        The JUnit XML that Jenkins' xUnit plug-in and GitLab's unit test reports read.
    """
    run, verdict = inputs.run, verdict_of(inputs)
    rules = inputs.gate.rules if inputs.gate else ()
    failures = sum(not rule.passed for rule in rules)
    stopped = verdict.kind == "open"
    counts = {
        "name": run.name,
        "tests": str(len(rules) + stopped),
        "failures": str(failures),
        "errors": str(int(stopped)),
        "skipped": "0",
        "time": f"{sum(run.seconds.values()):.3f}",
    }
    root = ElementTree.Element("testsuites", counts)
    suite = ElementTree.SubElement(
        root, "testsuite", {**counts, "timestamp": f"{run.created_at:%Y-%m-%dT%H:%M:%S}"}
    )
    _properties(suite, inputs)
    for rule in rules:
        _case(suite, inputs, rule)
    if stopped:
        case = ElementTree.SubElement(suite, "testcase", _named("run", inputs))
        error = ElementTree.SubElement(
            case, "error", {"message": visible(verdict.sentence), "type": "NoVerdict"}
        )
        error.text = visible("\n".join(verdict.reasons))
    out = ElementTree.SubElement(suite, "system-out")
    out.text = visible("\n".join([f"{verdict.word}: {verdict.sentence}", *inputs.warnings]))
    ElementTree.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ElementTree.tostring(root, encoding="unicode") + "\n"


def _properties(suite: ElementTree.Element, inputs: ReportInputs) -> None:
    properties = ElementTree.SubElement(suite, "properties")
    evidence = inputs.run.evidence
    facts = [("run", inputs.run.id, "")] + (evidence.facts() if evidence else [])
    for what, name, sha256 in facts:
        value = " ".join(part for part in (name, f"sha256:{sha256}" if sha256 else "") if part)
        ElementTree.SubElement(properties, "property", {"name": visible(what), "value": visible(value)})


def _case(suite: ElementTree.Element, inputs: ReportInputs, rule: RuleOutcome) -> None:
    case = ElementTree.SubElement(suite, "testcase", _named(rule_as_written(rule), inputs))
    if rule.passed:
        ElementTree.SubElement(case, "system-out").text = visible(rule.sentence)
        return
    failure = ElementTree.SubElement(case, "failure", {"message": visible(rule.sentence), "type": "GateRule"})
    failure.text = visible(rule_in_words(rule))


def _named(name: str, inputs: ReportInputs) -> dict[str, str]:
    return {"classname": visible(f"{inputs.run.name}.gate"), "name": visible(name), "time": "0"}
