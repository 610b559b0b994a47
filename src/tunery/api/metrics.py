"""``/metrics``: counters of this app, in a registry of its own so that two apps in a process do not mix."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from tunery.core.engine import UpstreamState
from tunery.core.errors import TuneryError
from tunery.core.rollout import RequestRecord
from tunery.pipeline.gateway.bases import EngineState
from tunery.pipeline.gateway.log import LogState

_PROJECT = "project"
SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)
"""Bucket borders of latencies [s]; the top ones are those of a small model on a laptop."""


class _AtScrape(Collector):
    """A gauge whose values are read when somebody looks."""

    def __init__(
        self,
        name: str,
        help_text: str,
        labels: Sequence[str],
        read: Callable[[], Mapping[tuple[str, ...], int]],
    ) -> None:
        self._name, self._help, self._labels, self._read = name, help_text, labels, read

    def collect(self) -> Iterable[GaugeMetricFamily]:
        family = GaugeMetricFamily(self._name, self._help, labels=self._labels)
        with suppress(TuneryError):  # without the database the rest is worth reading all the more
            for values, count in self._read().items():
                family.add_metric(values, count)
        return [family]


class _OfProject:
    """What a registry holds without what carries another project's label."""

    def __init__(self, registry: CollectorRegistry, project: str) -> None:
        self._registry, self._project = registry, project

    def collect(self) -> Iterator[Metric]:
        for family in self._registry.collect():
            samples = [s for s in family.samples if s.labels.get(_PROJECT, self._project) == self._project]
            if samples:
                narrowed = Metric(family.name, family.documentation, family.type)
                narrowed.samples = samples
                yield narrowed


class Metrics:
    """Everything that is counted about served calls."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        labels = [_PROJECT, "model", "arm"]
        counter = partial(Counter, registry=self.registry)
        seconds = partial(Histogram, buckets=SECONDS, registry=self.registry)
        self._requests = counter("tunery_requests", "Served calls", [*labels, "status"])
        self._latency = seconds("tunery_request_seconds", "Whole call", labels)
        self._ttft = seconds("tunery_time_to_first_token_seconds", "Until the first token", labels)
        self._tokens = counter("tunery_tokens", "Tokens", [*labels, "kind"])
        self._usd = counter("tunery_usd", "What calls cost, in US dollars", labels)
        answers = "Answers checked for their labels or JSON"
        self._format = counter("tunery_format_checked", answers, [*labels, "valid"])

    def watch(self, in_flight: Callable[[], int], jobs: Callable[[], Mapping[tuple[str, ...], int]]) -> None:
        """Also show calls being answered, and jobs by status, read at each scrape."""
        gauge = Gauge("tunery_requests_in_flight", "Calls being answered", registry=self.registry)
        gauge.set_function(in_flight)
        self.registry.register(_AtScrape("tunery_jobs", "Fine-tuning jobs", [_PROJECT, "status"], jobs))

    def watch_engines(self, engines: Callable[[], Sequence[EngineState]]) -> None:
        """Also show the queue and the circuit of each engine, read at each scrape."""

        def reader(value: Callable[[EngineState], int]) -> Callable[[], dict[tuple[str, ...], int]]:
            return lambda: {(engine.name,): value(engine) for engine in engines()}

        for name, text, value in (
            ("waiting", "Requests that wait for their turn", lambda e: e.waiting),
            ("running", "Requests that an engine has", lambda e: e.running),
            ("circuit_open", "1 while an engine is left alone", lambda e: int(e.circuit != "closed")),
        ):
            self.registry.register(_AtScrape(f"tunery_engine_{name}", text, ["engine"], reader(value)))

        def of_upstreams(value: Callable[[UpstreamState], int]) -> Callable[[], dict[tuple[str, ...], int]]:
            return lambda: {(e.name, one.name): value(one) for e in engines() for one in e.upstreams}

        for name, text, of_one in (
            ("running", "Requests that one of several servers has", lambda u: u.running),
            ("circuit_open", "1 while one of several servers is left alone", lambda u: u.circuit != "closed"),
        ):
            places = ["engine", "upstream"]
            self.registry.register(_AtScrape(f"tunery_upstream_{name}", text, places, of_upstreams(of_one)))

    def watch_log(self, state: Callable[[], LogState]) -> None:
        """Also show whether calls are being recorded, read at each scrape."""

        def waiting() -> dict[tuple[str, ...], int]:
            now = state()
            return {("memory",): now.in_memory, ("journal",): now.in_journal}

        def failed() -> dict[tuple[str, ...], int]:
            now = state()
            return {("lost",): now.lost, ("damaged",): now.damaged, ("set_aside",): now.set_aside}

        writable = Gauge(
            "tunery_request_log_writable", "1 while records can be written", registry=self.registry
        )
        writable.set_function(lambda: float(state().problem is None))
        where = "Request records that the database does not have yet"
        self.registry.register(_AtScrape("tunery_request_log_waiting", where, ["where"], waiting))
        never = "Request records that it will not have, since the start"
        self.registry.register(_AtScrape("tunery_request_log_failed", never, ["how"], failed))

    def watch_limits(self, refused: Callable[[], dict[str, int]], counted: Callable[[], bool]) -> None:
        """Also show calls that limits refused, and whether limits are counted where they are shared."""

        def refused_by() -> dict[tuple[str, ...], int]:
            return {(limit,): count for limit, count in refused().items()}

        what = "Calls that a limit did not let in, since the start"
        self.registry.register(_AtScrape("tunery_limit_refused", what, ["limit"], refused_by))
        reached = Gauge(
            "tunery_limits_counted", "1 while what limits bound can be counted", registry=self.registry
        )
        reached.set_function(lambda: float(counted()))

    def observe(self, record: RequestRecord) -> None:
        """Count one served call."""
        labels = (record.project, record.model, record.arm or "")
        self._requests.labels(*labels, record.status).inc()
        self._latency.labels(*labels).observe(record.latency_ms / 1000)
        if record.ttft_ms is not None:
            self._ttft.labels(*labels).observe(record.ttft_ms / 1000)
        self._tokens.labels(*labels, "prompt").inc(record.prompt_tokens)
        self._tokens.labels(*labels, "completion").inc(record.completion_tokens)
        self._usd.labels(*labels).inc(record.usd)
        if record.format_valid is not None:
            self._format.labels(*labels, str(record.format_valid).lower()).inc()

    def text(self, project: str | None = None) -> bytes:
        """Return the exposition format: of everything, or without what is of other projects than one."""
        return generate_latest(self.registry if project is None else _OfProject(self.registry, project))
