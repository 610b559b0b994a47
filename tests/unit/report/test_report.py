"""The report as its readers meet it: parsed, not searched for strings where structure is what matters."""

from __future__ import annotations

import base64
import dataclasses
import doctest
import hashlib
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.unit.report import report_samples as samples
from tests.unit.report.page_reader import Page, read_page, words
from tunery.core.errors import ResourceError
from tunery.core.evaluation import Evaluation, Metric
from tunery.core.example import Example, Message
from tunery.core.figures import metric_interval, metric_value, percent
from tunery.core.training import StepLog
from tunery.report import ReportInputs, render_report, svg, text, write_report

HOSTILE = (
    "</style></title></textarea><script>document.title='owned'</script>"
    '"\' onload=alert(1) <img src=x onerror=alert(1)> <a href="javascript:alert(1)">'
    "{{ 7*7 }} {% raw %} &lt;b&gt; <!-- ]]>"
)


@pytest.fixture(scope="module")
def whole() -> ReportInputs:
    return samples.whole_run()


@pytest.fixture(scope="module")
def page(whole: ReportInputs) -> Page:
    return read_page(render_report(whole))


def sentence_of(inputs: ReportInputs) -> str:
    section = read_page(render_report(inputs)).section("verdict")
    return words(section.one("p", class_="sentence").text)


def with_run(inputs: ReportInputs, **changes: object) -> ReportInputs:
    return dataclasses.replace(inputs, run=inputs.run.with_(**changes))


# The verdict


def test_a_passed_gate_reads_ship_it_with_both_numbers(whole: ReportInputs) -> None:
    tuned, few = whole.evaluations["tuned"].main, whole.evaluations["few_shot"].main
    assert sentence_of(whole) == (
        f"Ship it: banking77-quick@1 reaches {percent(tuned.value)} exact match; "
        f"the best prompting reached {percent(few.value)}."
    )


def test_prompting_that_beats_tuning_reads_do_not_ship_with_the_refused_rules() -> None:
    inputs = samples.whole_run({"zero_shot": 0.1, "few_shot": 0.8, "tuned": 0.3})
    assert sentence_of(inputs).startswith("Do not ship: prompting wins. Few-shot prompting")
    reasons = read_page(render_report(inputs)).section("verdict").all("li")
    assert inputs.gate is not None
    assert [words(r.text) for r in reasons] == [r.sentence for r in inputs.gate.rules if not r.passed]


def test_a_refusal_for_another_reason_does_not_say_that_prompting_wins() -> None:
    inputs = samples.whole_run(target=0.99)
    written = sentence_of(inputs)
    assert written.startswith("Do not ship: the tuned model reaches")
    assert written.endswith("but 1 of 3 gate rules refuses it.")
    assert "prompting wins" not in written


def test_equal_numbers_are_not_called_a_win_for_prompting() -> None:
    inputs = samples.whole_run({"zero_shot": 0.1, "few_shot": 0.5, "tuned": 0.5})
    same = inputs.evaluations["few_shot"].with_(subject="tuned", adapter="adapter-77d0c1b2a3e4f506")
    equal = dataclasses.replace(inputs, evaluations={**inputs.evaluations, "tuned": same})
    assert "prompting wins" not in sentence_of(equal)


def test_lower_perplexity_counts_as_better_prompting(whole: ReportInputs) -> None:
    main = {
        s: e.with_(main_metric="perplexity")
        for s, e in whole.evaluations.items()
        if "perplexity" in e.metrics
    }
    inputs = dataclasses.replace(whole, evaluations=main)
    assert inputs.best_prompting == min(
        (s for s in main if s != "tuned"), key=lambda s: main[s].metrics["perplexity"].value
    )
    assert "reaches a perplexity of" in sentence_of(inputs)


def test_the_champion_is_not_mistaken_for_prompting() -> None:
    inputs = samples.whole_run({"zero_shot": 0.1, "few_shot": 0.2, "banking77-quick@3": 0.7, "tuned": 0.74})
    assert inputs.best_prompting == "few_shot"


def test_a_run_that_stopped_at_preflight_says_where_and_why() -> None:
    inputs = samples.stopped_at_preflight()
    page = read_page(render_report(inputs))
    assert sentence_of(inputs) == (
        "No verdict: the run failed at the stage “preflight”, before the gate could judge."
    )
    assert inputs.run.error is not None
    assert inputs.run.error in page.section("verdict").text
    states = [words(row.all("td")[0].text) for row in page.section("progress").all("tr")[1:]]
    assert states == ["✓ done", "✗ stopped", *["· not reached"] * 5]
    assert not page.root.all("section", id="training")


@pytest.mark.parametrize(
    ("status", "opening"),
    [
        ("running", "No verdict yet: the run is still going at the stage “data”."),
        ("cancelled", "No verdict: the run was cancelled at the stage “data”, before the gate could judge."),
        ("failed", "No verdict: the run failed at the stage “data”, before the gate could judge."),
    ],
)
def test_a_bare_run_still_has_a_report(whole: ReportInputs, status: str, opening: str) -> None:
    bare = whole.run.with_(
        status=status,
        dataset_version=None,
        adapter_id=None,
        evaluations={},
        comparisons={},
        gate_id=None,
        model_version=None,
        seconds={},
        recipe={},
    )
    assert sentence_of(ReportInputs(run=bare)) == opening


def test_a_run_that_failed_after_its_gate_passed_is_not_called_shipped(whole: ReportInputs) -> None:
    inputs = with_run(whole, status="failed", model_version=None, error="disk full")
    assert sentence_of(inputs) == (
        "Not shipped: the gate passed, but the run failed afterwards at the stage “register”; "
        "nothing was registered."
    )


def test_a_run_that_stopped_while_training_has_its_prompting_measured(whole: ReportInputs) -> None:
    seconds = {"data": 1.0, "preflight": 0.5, "baseline": 60.0, "train": 7.0}
    cut = {"adapter_id": None, "gate_id": None, "model_version": None, "comparisons": {}}
    evaluations = {s: e for s, e in whole.evaluations.items() if s != "tuned"}
    run = whole.run.with_(
        status="failed", seconds=seconds, evaluations={s: e.id for s, e in evaluations.items()}, **cut
    )
    inputs = ReportInputs(run=run, dataset=whole.dataset, evaluations=evaluations)
    assert "at the stage “train”" in sentence_of(inputs)
    assert read_page(render_report(inputs)).section("numbers").all("svg")


def test_what_comes_next_depends_on_whether_there_is_a_champion_already(whole: ReportInputs) -> None:
    def command(inputs: ReportInputs) -> str:
        return read_page(render_report(inputs)).section("verdict").one("code").text

    assert command(whole) == "tunery serve"
    second = with_run(whole, model_version="banking77-quick@2")
    assert command(second) == "tunery deploy canary banking77-quick@2 --percent 10"


def test_any_part_may_be_missing(whole: ReportInputs) -> None:
    empty = ReportInputs(run=whole.run)
    for part in dataclasses.fields(ReportInputs):
        if part.name != "run":
            read_page(render_report(dataclasses.replace(whole, **{part.name: getattr(empty, part.name)})))


# The numbers


def test_every_metric_of_every_model_stands_with_its_interval_and_n(whole: ReportInputs, page: Page) -> None:
    rows = page.section("numbers").one("table").one("tbody").all("tr")
    subjects = ["zero_shot", "few_shot", "zero_shot_constrained", "tuned"]
    assert len(rows) == 4
    for name, row in zip(["exact_match", "macro_f1", "valid_json", "perplexity"], rows, strict=True):
        for subject, cell in zip(subjects, row.all("td"), strict=True):
            metric = whole.evaluations[subject].metrics.get(name)
            text = words(cell.text).replace(" best", "")
            if metric is None:
                assert text == "not measured"
            else:
                assert text == f"{metric_value(metric)} {metric_interval(metric)} n {metric.n:,}"


def test_the_best_of_each_metric_is_marked_in_words(page: Page) -> None:
    marked = page.section("numbers").all("span", class_="tag best")
    assert len(marked) == 4
    for row in page.section("numbers").one("tbody").all("tr"):
        assert words(row.all("td")[-1].text).count("best") == 1  # tuned wins all four here


def test_a_bar_is_as_long_as_its_value_and_its_line_as_its_interval(whole: ReportInputs, page: Page) -> None:
    chart = page.section("numbers").one("figure").one("svg")
    bar = chart.one("rect", class_="bar tuned")
    metric = whole.evaluations["tuned"].main
    assert share(bar.attributes["width"]) == pytest.approx(metric.value, abs=1e-4)
    group = next(g for g in chart.all("g") if bar in g.children)
    line = group.all("line", class_="whisker")[0]
    assert share(line.attributes["x1"]) == pytest.approx(metric.ci95[0], abs=1e-4)
    assert share(line.attributes["x2"]) == pytest.approx(metric.ci95[1], abs=1e-4)
    assert share(chart.one("line", class_="target").attributes["x1"]) == pytest.approx(0.7)


def share(percentage: str | None) -> float:
    assert percentage is not None
    assert percentage.endswith("%")
    return float(percentage[:-1]) / 100


def test_an_unbounded_metric_gets_a_scale_that_holds_its_interval(whole: ReportInputs) -> None:
    main = {
        s: e.with_(main_metric="perplexity")
        for s, e in whole.evaluations.items()
        if "perplexity" in e.metrics
    }
    page = read_page(render_report(with_run(dataclasses.replace(whole, evaluations=main), recipe={})))
    ends = [share(x.attributes["x2"]) for x in page.root.all("line", class_="whisker")]
    assert 0.5 < max(ends) <= 1


def test_the_comparison_is_reported_in_words_with_its_counts(whole: ReportInputs, page: Page) -> None:
    comparison = whole.comparisons["few_shot"]
    written = words(page.section("paired").all("p")[0].text)
    assert written.startswith(
        f"On the same 770 test rows, tuning fixed {comparison.fixed} answers that few-shot prompting "
        f"got wrong and broke {comparison.broken} that it got right: +"
    )
    assert "less than once in 1,000 such tests (p < 0.001)" in written


def test_a_difference_that_luck_explains_is_reported_not_to_be_shown() -> None:
    inputs = samples.whole_run({"zero_shot": 0.1, "few_shot": 0.5, "tuned": 0.5})
    written = words(read_page(render_report(inputs)).section("paired").all("p")[0].text)
    assert inputs.comparisons["few_shot"].p_value > 0.05
    assert "this test cannot tell them apart" in written
    assert "no difference shown" in words(
        read_page(render_report(inputs)).section("paired").one("table").text
    )


def test_gate_rules_stand_with_their_sentences_refused_ones_first() -> None:
    inputs = samples.whole_run(target=0.99)
    rules = read_page(render_report(inputs)).section("gate").all("li")
    assert [rule.attributes["class"] for rule in rules] == ["refused", "passed", "passed"]
    assert inputs.gate is not None
    for rule in inputs.gate.rules:
        assert sum(words(rule.sentence) in words(line.text) for line in rules) == 1


# Classes, examples, data, lineage


def test_classes_come_worst_first_and_all_of_them_are_there(whole: ReportInputs, page: Page) -> None:
    rows = [row for body in page.section("classes").all("tbody") for row in body.all("tr")]
    scores = {score.label: score.f1 for score in whole.evaluations["tuned"].per_class}
    labels = [words(row.one("th").text) for row in rows]
    assert sorted(labels) == sorted(samples.LABELS)
    f1 = [scores[label] for label in labels]
    assert f1 == sorted(f1)
    assert len(page.section("classes").one("details").all("tr")) == 77 - 10 + 1


def test_twenty_fixed_and_twenty_broken_examples_show_both_answers(whole: ReportInputs, page: Page) -> None:
    section = page.section("examples")
    cards = [item for cards in section.all("ol", class_="cards") for item in cards.all("li")]
    comparison = whole.comparisons["few_shot"]
    assert len(comparison.fixed_ids) == len(comparison.broken_ids) == 20
    assert len(cards) == 40
    before = {p.id: p.prediction for p in whole.predictions["few_shot"]}
    for card, example_id in zip(cards, (*comparison.broken_ids, *comparison.fixed_ids), strict=True):
        example = whole.examples[example_id]
        answers = [words(a.text) for a in card.all("dd")]
        assert answers[0] == example.reference
        assert answers[1] == (words(before[example_id]) or "(empty answer)")
        assert words(card.one("p").text) == f"recipes/data/banking77/train.csv, row {example.metadata['row']}"


def test_long_text_is_cut_and_says_how_much_is_missing(whole: ReportInputs) -> None:
    broken = whole.comparisons["few_shot"].broken_ids[0]
    example = whole.examples[broken]
    long = Message(role="user", content="ä" * 100_000)
    examples = {**whole.examples, broken: example.with_(messages=(long, example.messages[-1]))}
    html = render_report(dataclasses.replace(whole, examples=examples))
    assert "99,300 more characters" in html
    assert html.count("ä" * 700) == 1
    assert "ä" * 701 not in html


def test_every_drop_reason_stands_with_its_count_most_frequent_first(page: Page) -> None:
    table = next(t for t in page.section("data").all("table") if "by reason" in t.one("caption").text)
    rows = [
        [words(c.text) for c in (row.one("th"), row.all("td")[0])] for row in table.one("tbody").all("tr")
    ]
    ordered = sorted(samples.DROPPED.items(), key=lambda item: (-item[1], item[0]))
    assert rows == [[reason.replace("_", " "), f"{n:,}"] for reason, n in ordered]
    assert len(rows) == 10


def test_masked_data_splits_and_warnings_are_reported(page: Page) -> None:
    text = words(page.section("data").text)
    for part in (
        "email 14",
        "phone 6",
        "iban 2",
        "train 729",
        "validation 77",
        "test 770",
        "has 4 train rows",
    ):
        assert part in text


def test_lineage_leads_from_the_version_to_the_files_with_their_hashes(
    whole: ReportInputs, page: Page
) -> None:
    chain = page.section("lineage").one("ol").all("li")
    names = [words(node.one("p", class_="node").text) for node in chain]
    assert whole.adapter is not None
    assert whole.dataset is not None
    sources = [source.path for source in whole.dataset.sources]
    assert names == [
        "banking77-quick@1",
        whole.adapter.id,
        whole.adapter.base.name,
        whole.dataset.id,
        *sources,
    ]
    hashes = [whole.adapter.sha256, whole.adapter.base.sha256, *(s.sha256 for s in whole.dataset.sources)]
    assert all(digest in page.section("lineage").text for digest in hashes)
    assert "Apache-2.0" in page.section("lineage").text


def test_settings_are_shown_without_secrets(page: Page) -> None:
    settings = page.section("settings").one("pre").text
    assert "learning_rate: 0.001" in settings
    assert "hunter2" not in settings
    assert "tk-very-secret" not in settings
    assert "https://(hidden)@gateway.example/v1" in settings


def test_time_and_environment_are_reported(page: Page) -> None:
    assert "Adapter trained ✓ done 6 min 15 s" in words(page.section("time").text)
    environment = words(page.section("environment").text)
    assert "transformers 5.23.0" in environment
    assert "8.6 GB" in environment


# The curves


def history_page(whole: ReportInputs, logs: tuple[StepLog, ...]) -> tuple[str, Page]:
    adapter = samples.adapter(logs) if logs else samples.adapter().with_(history=(), best_step=144)
    html = render_report(dataclasses.replace(whole, adapter=adapter))
    return html, read_page(html)


def test_the_kept_step_is_marked_at_its_place_on_the_curve(whole: ReportInputs, page: Page) -> None:
    chart = page.section("training").one("figure").children[0]
    assert whole.adapter is not None
    best = whole.adapter.best_step
    marked = share(chart.one("line", class_="best").attributes["x1"])
    ring = chart.one("circle", class_="ring")
    assert share(ring.attributes["cx"]) == pytest.approx(marked, abs=1e-3)
    dots = [d for d in chart.all("circle", class_="dot") if str(d.attributes["cx"]).endswith("%")]
    lowest = max(dots, key=lambda dot: float(str(dot.attributes["cy"])))
    assert share(lowest.attributes["cx"]) == pytest.approx(marked, abs=1e-3)
    assert marked == pytest.approx(0.012 + 0.976 * (best - 1) / 143, abs=1e-3)
    assert f"The adapter of step {best} was kept" in chart.one("desc").text


def test_an_empty_history_has_a_sentence_instead_of_a_curve(whole: ReportInputs) -> None:
    _, page = history_page(whole, ())
    assert "No loss was logged" in page.section("training").text
    assert not page.section("training").all("figure")


def test_a_single_logged_step_draws_no_curve(whole: ReportInputs) -> None:
    _, page = history_page(whole, (StepLog(step=1, epoch=0.1, train_loss=2.0),))
    assert not page.section("training").all("figure")
    assert "2" in page.section("training").one("table").text


def test_losses_that_are_no_numbers_are_counted_not_drawn(whole: ReportInputs) -> None:
    logs = [log.with_(train_loss=float("nan")) if log.step in (5, 6) else log for log in samples.history()]
    html, page = history_page(whole, tuple(logs))
    assert "2 logged losses were infinite or not a number" in words(page.section("training").text)
    assert all("nan" not in str(p.attributes["points"]) for p in page.root.all("polyline"))
    assert "nan" not in html.lower().replace("finance", "")


def test_a_flat_curve_is_drawn(whole: ReportInputs) -> None:
    logs = tuple(StepLog(step=i, epoch=i / 9, train_loss=1.0, validation_loss=1.0) for i in range(1, 10))
    _, page = history_page(whole, logs)
    assert page.section("training").all("polyline")


def test_ten_thousand_steps_do_not_make_the_page_big(whole: ReportInputs) -> None:
    html, page = history_page(whole, samples.history(10_000, 100))
    assert len(html) < 250_000
    assert len(page.section("training").one("tbody").all("tr")) == 40


# Safe, whole and readable


def poisoned(inputs: ReportInputs, poison: Callable[[str], str]) -> ReportInputs:
    """Return the inputs with ``poison`` applied to every text that users or models write."""

    def example(e: Example) -> Example:
        messages = tuple(m.with_(content=poison(m.content)) for m in e.messages)
        return e.with_(messages=messages, metadata={"source": poison("train.csv"), "row": 3})

    def evaluation(e: Evaluation) -> Evaluation:
        return e.with_(
            per_class=tuple(c.with_(label=poison(c.label)) for c in e.per_class),
            confusions=tuple(
                c.with_(reference=poison(c.reference), prediction=poison(c.prediction)) for c in e.confusions
            ),
        )

    assert inputs.dataset is not None
    assert inputs.adapter is not None
    assert inputs.gate is not None
    base = inputs.adapter.base.with_(name=poison("base"), license=poison("MIT"), origin=poison("hub"))
    return dataclasses.replace(
        inputs,
        run=inputs.run.with_(
            name=poison("name"), model_version="m@2", error=poison("error"), recipe={"a": poison("b")}
        ),
        dataset=inputs.dataset.with_(
            dropped={poison(k): v for k, v in inputs.dataset.dropped.items()},
            masked={poison(k): v for k, v in inputs.dataset.masked.items()},
            warnings=tuple(poison(w) for w in inputs.dataset.warnings),
            sources=tuple(s.with_(path=poison(s.path)) for s in inputs.dataset.sources),
            system_prompt=poison("system"),
        ),
        adapter=inputs.adapter.with_(base=base),
        evaluations={s: evaluation(e) for s, e in inputs.evaluations.items()},
        predictions={
            s: [p.with_(prediction=poison("x" + p.prediction), reference=poison(p.reference)) for p in ps]
            for s, ps in inputs.predictions.items()
        },
        gate=inputs.gate.with_(
            rules=tuple(
                r.with_(sentence=poison(r.sentence), rule={"m": poison("r")}) for r in inputs.gate.rules
            )
        ),
        examples={i: example(e) for i, e in inputs.examples.items()},
        dropped_examples=[
            d.with_(
                source=poison(d.source),
                reason=poison(d.reason),
                detail=poison(d.detail),
                text=poison(d.text[:9]),
            )
            for d in inputs.dropped_examples
        ],
        environment={"libraries": {poison("torch"): poison("2")}, poison("python"): poison("3")},
    )


def test_hostile_text_adds_not_one_tag_to_the_page(whole: ReportInputs) -> None:
    some = samples.whole_run({"zero_shot": 0.06, "few_shot": 0.21, "tuned": 0.74})
    # Equally long, so that the same texts are cut.
    harmless = read_page(render_report(poisoned(some, lambda text: text[:200] + "x" * len(HOSTILE))))
    attacked = read_page(render_report(poisoned(some, lambda text: text[:200] + HOSTILE)))
    assert attacked.tags == harmless.tags
    assert "script" not in attacked.tags
    assert "img" not in attacked.tags
    assert attacked.root.text.count("document.title='owned'") > 200  # it is all there, as text


def test_nothing_on_the_page_loads_runs_or_leads_anywhere_else(page: Page) -> None:
    for element in page.elements():
        assert element.tag not in {"script", "link", "img", "iframe", "object", "embed", "form", "base"}
        for name, value in element.attributes.items():
            assert name not in {"src", "style", "srcset", "action", "data", "background"}
            assert not name.startswith("on")
            if name == "href":
                assert str(value).startswith("#")
    style = page.root.one("style").text
    assert "url(" not in style
    assert "@import" not in style


def test_the_policy_forbids_everything_but_the_pages_own_style(page: Page) -> None:
    (policy,) = [
        str(m.attributes["content"])
        for m in page.root.all("meta")
        if m.attributes.get("http-equiv") == "Content-Security-Policy"
    ]
    digest = base64.b64encode(hashlib.sha256(page.root.one("style").text.encode()).digest()).decode()
    assert policy == f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"


def test_text_that_no_file_can_hold_or_no_eye_can_see_is_made_visible(whole: ReportInputs) -> None:
    text = "nul\x00 esc\x1b lone\ud83d turn\u202eround zero\u200bwidth 👩‍👩‍👧 עברית"
    broken = whole.comparisons["few_shot"].broken_ids[0]
    answers = [p.with_(prediction=text) if p.id == broken else p for p in whole.predictions["tuned"]]
    inputs = dataclasses.replace(whole, predictions={**whole.predictions, "tuned": answers})
    html = render_report(inputs)
    html.encode("utf-8")
    assert "nul␀ esc␛ lone\ufffd turn⟦U+202E⟧round zero⟦U+200B⟧width 👩‍👩‍👧 עברית" in html


def test_every_label_leads_to_an_element_and_every_id_is_its_own(page: Page) -> None:
    ids = [str(e.attributes["id"]) for e in page.elements() if "id" in e.attributes]
    assert len(ids) == len(set(ids))
    for element in page.elements():
        for label in str(element.attributes.get("aria-labelledby") or "").split():
            assert label in ids
        if str(element.attributes.get("href")).startswith("#"):
            assert str(element.attributes["href"])[1:] in ids


def test_every_drawing_says_what_it_shows_or_is_left_out_for_screen_readers(page: Page) -> None:
    drawings = [svg for svg in page.root.all("svg") if svg.attributes.get("class") != "plot"]
    charts = [svg for svg in drawings if svg.attributes.get("role") == "img"]
    assert len(charts) == 2
    for chart in charts:
        assert chart.one("title").text
        assert re.search(r"\d", chart.one("desc").text)
    assert all(svg.attributes.get("aria-hidden") == "true" for svg in drawings if svg not in charts)


def test_tables_have_captions_and_their_headers_have_scopes(page: Page) -> None:
    for table in page.root.all("table"):
        assert words(table.one("caption").text)
        assert all(th.attributes.get("scope") in {"col", "row"} for th in table.all("th"))


def test_the_same_inputs_give_the_same_page(whole: ReportInputs) -> None:
    assert render_report(whole) == render_report(samples.whole_run())


def test_a_metric_that_is_no_number_does_not_break_the_page(whole: ReportInputs) -> None:
    bad = Metric(
        name="exact_match", value=float("nan"), n=0, ci95=(float("nan"), float("nan")), method="wilson"
    )
    zero = whole.evaluations["zero_shot"]
    evaluation = zero.with_(metrics={**zero.metrics, "exact_match": bad})
    page = read_page(
        render_report(dataclasses.replace(whole, evaluations={**whole.evaluations, "zero_shot": evaluation}))
    )
    assert "not a number" in page.section("numbers").text
    for drawing in page.root.all("svg"):
        parts = drawing.all("rect") + drawing.all("line")
        assert all("nan" not in str(value) for part in parts for value in part.attributes.values())
    few = dataclasses.replace(whole, evaluations={**whole.evaluations, "few_shot": evaluation})
    assert few.best_prompting == "zero_shot_constrained"


def test_the_examples_in_the_docstrings_hold() -> None:
    results = [doctest.testmod(module) for module in (svg, text)]
    assert [(r.failed, r.attempted > 0) for r in results] == [(0, True), (0, True)]


# Writing


def test_writing_replaces_the_old_report_whole_and_leaves_nothing_else(
    whole: ReportInputs, tmp_path: Path
) -> None:
    path = tmp_path / "reports" / "run.html"
    write_report(samples.stopped_at_preflight(), path)
    write_report(whole, path)
    assert path.read_text(encoding="utf-8") == render_report(whole)
    assert [p.name for p in path.parent.iterdir()] == ["run.html"]


def test_a_full_disk_leaves_the_old_report_and_no_scraps(
    whole: ReportInputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "run.html"
    path.write_text("old")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(ResourceError, match="No space left on device"):
        write_report(whole, path)
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["run.html"]


def test_a_path_below_a_file_is_refused_with_a_reason(whole: ReportInputs, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ResourceError, match="cannot be written"):
        write_report(whole, tmp_path / "file" / "run.html")


# In a browser


def opened(path: Path, profile: Path) -> subprocess.CompletedProcess[str]:
    browser = shutil.which("chromium") or shutil.which("google-chrome") or shutil.which("chromium-browser")
    if browser is None:
        pytest.skip("no Chromium here")
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"]
    flags += ["--enable-logging=stderr", f"--user-data-dir={profile}", "--dump-dom", path.as_uri()]
    return subprocess.run([browser, *flags], capture_output=True, text=True, timeout=60, check=True)


@pytest.mark.browser
def test_a_browser_applies_the_style_and_has_nothing_to_complain_about(
    whole: ReportInputs, tmp_path: Path
) -> None:
    path = tmp_path / "run.html"
    write_report(whole, path)
    seen = opened(path, tmp_path / "profile")
    assert "Ship it" in seen.stdout
    assert "Content Security Policy" not in seen.stderr
    assert "CONSOLE" not in seen.stderr


@pytest.mark.browser
def test_a_browser_refuses_a_script_even_if_one_got_onto_the_page(
    whole: ReportInputs, tmp_path: Path
) -> None:
    html = render_report(whole).replace("</main>", "<script>document.title = 'owned'</script></main>")
    path = tmp_path / "run.html"
    path.write_text(html, encoding="utf-8")
    seen = opened(path, tmp_path / "profile")
    assert "<title>Ship it" in seen.stdout
    assert "Content Security Policy" in seen.stderr
