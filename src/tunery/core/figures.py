"""How numbers and names are written for people, so that card, report and terminal agree."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, TypeVar

from tunery.core.errors import listed

if TYPE_CHECKING:  # the command line writes numbers before it needs records
    from tunery.core.evaluation import Contamination, Evaluation, Metric, Slice, Unit

_Key = TypeVar("_Key", bound=str | tuple[str, str])
_SUBJECT_NAMES = {
    "zero_shot": "Zero-shot prompting",
    "few_shot": "Few-shot prompting",
    "zero_shot_constrained": "Zero-shot, held to the labels",
    "few_shot_constrained": "Few-shot, held to the labels",
    "few_shot_retrieved": "Few-shot, nearest examples",
    "few_shot_retrieved_constrained": "Few-shot, nearest examples, held to the labels",
    "tfidf": "TF-IDF with logistic regression",
    "champion": "Champion today",
    "start": "What training started from",
    "trainer": "Tuned, as training computed it",
    "tuned": "Tuned",
}

_AS_READ = {
    **{written.lower(): name for name, written in _SUBJECT_NAMES.items() if "-" in written},
    "zero-shot": "zero_shot",
    "few-shot": "few_shot",
    "zero-shot, constrained": "zero_shot_constrained",
    "few-shot, constrained": "few_shot_constrained",
    "tf-idf": "tfidf",
}
"""How a reader says prompting and the word classifier, to their names in recipes."""
_READ = re.compile(
    r"(?<![\w-])(?:" + "|".join(map(re.escape, sorted(_AS_READ, key=len, reverse=True))) + r")(?![\w-])",
    re.IGNORECASE,
)

_SUBJECT_ORDER = (
    "zero_shot",
    "few_shot",
    "few_shot_retrieved",
    "zero_shot_constrained",
    "few_shot_constrained",
    "few_shot_retrieved_constrained",
    "tfidf",
)


def subject_name(name: str) -> str:
    """Return what was evaluated as a reader says it; ``name@3`` stays as it is."""
    return _SUBJECT_NAMES.get(name, name if "@" in name else name.replace("_", " ").capitalize())


def subject_phrase(name: str) -> str:
    """Return what was evaluated as it stands within a sentence.

    >>> subject_phrase("few_shot"), subject_phrase("Support@3")
    ('few-shot prompting', 'Support@3')
    """
    written = subject_name(name)
    return written if "@" in written or written[:2].isupper() else written[0].lower() + written[1:]


def subjects_in(text: str) -> str:
    """Return a text with prompting and the word classifier called by their names in recipes, wherever they
    stand as a reader says them.

    >>> subjects_in("gain over few-shot, held to the labels >= 0.05")
    'gain over few_shot_constrained >= 0.05'
    >>> subjects_in("no worse than zero-shot, constrained within 0.01")
    'no worse than zero_shot_constrained within 0.01'
    """
    return _READ.sub(lambda found: _AS_READ[found[0].lower()], text)


def subject_order(name: str) -> tuple[int, str]:
    """Return a sort key: prompting from plain to constrained, other arms and versions, the tuned model."""
    if name == "tuned":
        return (len(_SUBJECT_ORDER) + 2, name)
    if name in _SUBJECT_ORDER:
        return (_SUBJECT_ORDER.index(name), name)
    is_version = name == "champion" or "@" in name
    return (len(_SUBJECT_ORDER) + (1 if is_version else 0), name)


def is_prompting(evaluation: Evaluation) -> bool:
    """Return whether an evaluation shows what prompting the bare base reaches."""
    bare = evaluation.adapter is None and evaluation.arm is None
    return bare and evaluation.subject != "tuned" and "@" not in evaluation.subject


def is_prompting_name(subject: str) -> bool:
    """Return whether a subject is called as prompting of the bare base is.

    >>> is_prompting_name("few_shot_constrained"), is_prompting_name("tfidf")
    (True, False)
    """
    return subject.startswith(("zero_shot", "few_shot"))


def is_share(unit: Unit, *values: float) -> bool:
    """Return whether a metric of that unit with these values reads as a percentage."""
    return unit == "share" and all(math.isfinite(x) and -1e-9 <= x <= 1 + 1e-9 for x in values)


def is_rate(metric: Metric) -> bool:
    """Return whether a metric is a share that reads as a percentage."""
    return is_share(metric.unit, metric.value, *metric.ci95)


def percent(share: float) -> str:
    """Write a share in percent with one decimal; only exactly 0 and 1 are written as 0.0 and 100.0.

    >>> percent(0.7312), percent(0.99996), percent(0.0)
    ('73.1 %', '> 99.9 %', '0.0 %')
    """
    if not math.isfinite(share):
        return "not a number"
    if share < 1 and round(share * 100, 1) >= 100:
        return "> 99.9 %"
    if share > 0 and round(share * 100, 1) == 0:
        return "< 0.1 %"
    return f"{share * 100:.1f} %"


def percent_of(part: float, whole: float) -> str:
    """Write a part of a whole in percent; a part of nothing is 0.0 %.

    >>> percent_of(1, 3), percent_of(0, 0)
    ('33.3 %', '0.0 %')
    """
    return percent(part / whole if whole else 0.0)


def rate(events: int, trials: int) -> str:
    """Write a measured rate with the counts behind it.

    >>> rate(3, 71), rate(0, 0)
    ('4.2 % (3 of 71)', 'unknown (0 of 0)')
    """
    return f"{percent(events / trials) if trials else 'unknown'} ({events:,} of {trials:,})"


def points(difference: float) -> str:
    """Write a difference of two shares in percentage points, with its sign.

    >>> points(0.517), points(-0.021), points(0.0)
    ('+51.7 points', '−2.1 points', '0.0 points')
    """
    return change(difference, share=True)


def number(value: float) -> str:
    """Write a number without a unit to about three significant digits.

    >>> number(3.14159), number(12345.6), number(0.00042), number(0)
    ('3.14', '12,346', '0.00042', '0')
    """
    if not math.isfinite(value):
        return "not a number"
    size = abs(value)
    if value == int(value) and size < 1e15:
        return f"{int(value):,}"
    if size >= 1000:
        return f"{value:,.0f}"
    if size >= 0.01:
        return f"{value:.{max(0, 2 - math.floor(math.log10(size)))}f}"
    return f"{value:.2g}"


def quantity(value: float, *, share: bool) -> str:
    """Write a value in a metric's unit: a share in percent, anything else as a number."""
    return percent(value) if share else number(value)


def gap(amount: float, *, share: bool) -> str:
    """Write how far two values of a metric are apart, without a sign.

    >>> gap(-0.021, share=True), gap(0.3, share=False), gap(0.0002, share=True)
    ('2.1 points', '0.300', 'under 0.1 points')
    """
    if not share:
        return number(abs(amount))
    rounded = round(abs(amount) * 100, 1)
    return f"{rounded:.1f} points" if rounded or not amount else "under 0.1 points"


def bound(value: float, *, share: bool) -> str:
    """Write a configured bound in a metric's unit as exactly as it was configured.

    >>> bound(0.8725, share=True), bound(3.217, share=False)
    ('87.25 %', '3.217')
    """
    return f"{value * 100:.12g} %" if share else f"{value:.12g}"


def gap_bound(amount: float, *, share: bool) -> str:
    """Write a configured distance of two values of a metric as exactly as it was configured.

    >>> gap_bound(0.0005, share=True)
    '0.05 points'
    """
    return f"{amount * 100:.12g} points" if share else f"{amount:.12g}"


def quantity_beside(value: float, limit: float, *, share: bool) -> str:
    """Write a value in a metric's unit with as many decimals as show on which side of ``limit`` it is.

    >>> quantity_beside(0.8723, 0.8725, share=True), quantity_beside(0.8725, 0.8725, share=True)
    ('87.2 %', '87.25 %')
    >>> quantity_beside(0.8696, 0.87, share=True), quantity_beside(0.9997, 0.9996, share=True)
    ('86.96 %', '99.97 %')
    """
    unit, scale = (" %", 100) if share else ("", 1)
    return _beside(value * scale, limit * scale, quantity(value, share=share), unit)


def gap_beside(amount: float, limit: float, *, share: bool) -> str:
    """Write how far two values are apart with as many decimals as tell it from the distance ``limit``.

    >>> gap_beside(-0.0496, 0.05, share=True), gap_beside(0.0004, 0.0005, share=True)
    ('4.96 points', '0.04 points')
    """
    unit, scale = (" points", 100) if share else ("", 1)
    return _beside(abs(amount) * scale, limit * scale, gap(amount, share=share), unit)


def _beside(value: float, limit: float, usual: str, unit: str) -> str:
    side = _side(value, limit)
    for written in (usual, *(f"{value:.{decimals}f}{unit}" for decimals in range(1, 13))):
        sign, _, digits = written.removesuffix(unit).replace(",", "").rpartition(" ")  # "> 99.9", "under 0.1"
        shown = float(digits)
        told = side == (1 if sign == ">" else -1) if sign else shown not in (0, 100) or shown == value
        if told and _side(shown, limit) == side:
            return written
    return f"{value:.12g}{unit}"


def _side(value: float, limit: float) -> int:
    return 0 if abs(value - limit) <= 1e-7 else 1 if value > limit else -1


def change(amount: float, *, share: bool) -> str:
    """Write a difference of two values of a metric with its sign: points for a share, else a number."""
    rounded = round(amount, 3) if share else amount
    size = gap(rounded, share=share)
    return f"{'+' if rounded > 0 else '−' if rounded < 0 else ''}{size}"


def change_interval(low: float, high: float, *, share: bool) -> str:
    """Write the interval of a difference, its unit left to the sentence around it.

    >>> change_interval(-0.011, 0.04, share=True)
    '−1.1 to +4.0'
    """
    return " to ".join(change(end, share=share).removesuffix(" points") for end in (low, high))


def count(value: int) -> str:
    """Write a count with thousands separators."""
    return f"{value:,}"


def rounded_up(value: int) -> int:
    """Return a count to two digits, upwards: more would claim what an estimate does not know.

    >>> rounded_up(1941), rounded_up(57)
    (2000, 57)
    """
    step = int(10 ** max(0, len(str(value)) - 2))
    return math.ceil(value / step) * step


def counted(value: int, singular: str, plural: str | None = None) -> str:
    """Write a count with its noun.

    >>> counted(1, "row"), counted(1200, "row"), counted(2, "class", "classes")
    ('1 row', '1,200 rows', '2 classes')
    """
    return f"{value:,} {singular if value == 1 else plural or singular + 's'}"


def most_first(counts: Mapping[_Key, int]) -> list[tuple[_Key, int]]:
    """Return names with their counts, most frequent first, those of one count in their own order."""
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))


def listed_counts(counts: Mapping[_Key, int], limit: int | None = None) -> str:
    """Write names with their counts, most frequent first; empty for none.

    >>> listed_counts({"en": 3, "de": 1009, "fr": 3}, 2)
    '1,009 de, 3 en and 1 more'
    """
    return listed([f"{n:,} {name}" for name, n in most_first(counts)], limit or len(counts))


def one_line(text: str, most: int) -> str:
    """Return a text on one line, cut after ``most`` characters.

    >>> one_line("card\\n  arrival", 20), one_line("card arrival", 4)
    ('card arrival', 'card…')
    """
    line = " ".join(text.split())
    return line if len(line) <= most else f"{line[:most]}…"


def p_value(p: float) -> str:
    """Write a p-value as far as its digits mean anything.

    >>> p_value(1e-30), p_value(0.0042), p_value(0.0499), p_value(0.34), p_value(1.0)
    ('p < 0.001', 'p = 0.004', 'p < 0.05', 'p = 0.34', 'p > 0.99')
    """
    if not math.isfinite(p):
        return "p unknown"
    if p < 0.001:
        return "p < 0.001"
    if p > 0.99:
        return "p > 0.99"
    if 0.0495 <= p < 0.05:  # must not round up to the line it is under
        return "p < 0.05"
    return f"p = {p:.3f}" if p < 0.1 else f"p = {p:.2f}"


def duration(seconds: float) -> str:
    """Write a wall time.

    >>> duration(0.42), duration(42.4), duration(375), duration(7500)
    ('0.4 s', '42 s', '6 min 15 s', '2 h 05 min')
    """
    if not math.isfinite(seconds) or seconds < 0:
        return "unknown"
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60:02d} min"


def milliseconds(value: float) -> str:
    """Write a latency.

    >>> milliseconds(1234.5), milliseconds(0.42)
    ('1,234 ms', '0.42 ms')
    """
    return f"{value:,.0f} ms" if value >= 10 or value == 0 else f"{value:.2g} ms"


def usd(amount: float) -> str:
    """Write an amount of money with as many decimals as tell it from nothing.

    >>> usd(1234.5), usd(0.0123), usd(0.000042), usd(0.0)
    ('$1,234.50', '$0.012', '$0.000042', '$0.00')
    """
    if amount == 0 or amount >= 0.1 or not math.isfinite(amount):
        return f"${amount:,.2f}"
    return f"${amount:.{1 - math.floor(math.log10(amount))}f}"


def effort(evaluation: Evaluation, price_per_hour: float | None = None) -> list[tuple[str, str | None]]:
    """Return what an evaluation's answers took, each with its name; None where it is not known."""
    tokens, latency, cost = None, None, evaluation.usd_per_1k(price_per_hour)
    if evaluation.prompt_tokens is not None:
        tokens = f"{count(evaluation.prompt_tokens)} in, {count(evaluation.completion_tokens or 0)} out"
    if evaluation.latency_p50_ms is not None and evaluation.latency_p95_ms is not None:
        latency = f"{milliseconds(evaluation.latency_p50_ms)}, {milliseconds(evaluation.latency_p95_ms)}"
    return [
        ("tokens", tokens),
        ("latency p50, p95", latency),
        ("answering took", None if evaluation.answering_s is None else duration(evaluation.answering_s)),
        ("1,000 requests", None if cost is None else usd(cost)),
    ]


def size(amount: float) -> str:
    """Write an amount of memory or disk in decimal units, as a disk's label has them.

    >>> size(900), size(34_600_000), size(1_250_000_000)
    ('900 bytes', '35 MB', '1.2 GB')
    """
    if amount >= 1e9:
        return f"{amount / 1e9:,.1f} GB"
    return f"{amount / 1e6:.0f} MB" if amount >= 1e6 else f"{amount:,.0f} bytes"


def metric_value(metric: Metric) -> str:
    """Write a metric's value in its own unit, as ``73.1 %`` or ``310 ms``."""
    return quantity(metric.value, share=is_rate(metric)) + unit_behind(metric.unit)


def unit_behind(unit: Unit) -> str:
    """Return what stands behind a number of that unit, a space before it; shares bring their own.

    >>> unit_behind("ms"), unit_behind("number")
    (' ms', '')
    """
    return "" if unit in ("share", "number") else f" {unit}"


def metric_interval(metric: Metric) -> str:
    """Write a metric's 95 % interval in its own unit, as ``69.9–76.1 %``."""
    return interval(*metric.ci95, share=is_rate(metric)) + unit_behind(metric.unit)


def interval(low: float, high: float, *, share: bool) -> str:
    """Write the interval of a value in its own unit.

    >>> interval(0.699, 0.761, share=True), interval(0.5, 1.25, share=False)
    ('69.9–76.1 %', '0.500–1.25')
    """
    return f"{low * 100:.1f}–{high * 100:.1f} %" if share else f"{number(low)}–{number(high)}"


def slice_sentence(found: Slice) -> str:
    """Write what the tuned model is on a slice of the rows, and against the other subject."""
    share = is_share(found.metric.unit, found.difference)
    return (
        f"where {found.column} is {found.value}: {metric_phrase(found.metric)}, "
        f"{change(found.difference, share=share)} against {subject_name(found.against)} "
        f"({change_interval(*found.ci95, share=share)}), {found.verdict}"
    )


def contamination_sentence(found: Contamination) -> str:
    """Write how many rows a model had seen, where, and its metric with and without them."""
    kinds = [f"{count(found.exact)} by the same prompt"] if found.exact else []
    kinds += [f"{count(found.near)} nearly"] if found.near else []
    what = f"{count(found.exact + found.near)} of {counted(found.rows, 'row')}"
    ids = listed(list(found.ids), 3, total=found.exact + found.near)
    seen = f"{subject_name(found.subject)}: {what} stand in {found.where} ({' and '.join(kinds)}: {ids})"
    if found.metric is None:
        return seen
    without = "too few others for a figure without"
    if found.without:
        without = f"{metric_value(found.without)} on the {count(found.without.n)} others"
    return f"{seen}; {metric_phrase(found.metric)} with them, {without}"


def metric_phrase(metric: Metric) -> str:
    """Write value and name as a sentence needs them: ``73.1 % exact match``, ``a perplexity of 3.21``."""
    if is_rate(metric):
        return f"{percent(metric.value)} {metric.title}"
    return f"a {metric.title} of {metric_value(metric)}"


def difference(metric: Metric, amount: float) -> str:
    """Write an improvement of ``metric``: points for a share, a signed number otherwise."""
    return change(amount, share=is_rate(metric)) + unit_behind(metric.unit)


def at_least_as_good(one: Metric, other: Metric) -> bool:
    """Return whether ``one`` is as good as ``other`` or better, whichever way the metric points."""
    return one.value >= other.value if one.higher_is_better else one.value <= other.value
