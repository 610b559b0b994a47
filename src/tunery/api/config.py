"""Settings of the server."""

from __future__ import annotations

import ipaddress
from typing import Self

from pydantic import Field, model_validator

from tunery.api.connections import ConnectionSettings
from tunery.core.config import Settings
from tunery.gate.rules import GateConfig
from tunery.pipeline.batches.config import BatchSettings
from tunery.pipeline.gateway.conversations import ConversationSettings
from tunery.pipeline.gateway.embedder import EmbeddingSettings
from tunery.pipeline.gateway.log import LogSettings
from tunery.pipeline.jobs.allowed import JobLimits, JobTerms
from tunery.pipeline.jobs.file_check import CheckSettings
from tunery.pipeline.jobs.supervisor import SupervisorSettings
from tunery.pipeline.webhooks.config import WebhookSettings
from tunery.serve.engines import AnyEngine, EngineSettings, engine_settings
from tunery.serve.openai.wire import SamplingDefaults
from tunery.traffic.config import TrafficSettings
from tunery.traffic.limits.config import LimitSettings


class ServerSettings(Settings):
    """How ``tunery serve`` listens, whom it lets in, and what it bounds."""

    host: str = "127.0.0.1"
    """Address to listen on. The default answers this machine alone."""
    port: int = Field(default=8000, ge=0, le=65_535)
    """Port to listen on; 0 takes a free one."""
    base: str = "smollm2-135m-instruct"
    """Base model served by its own name, as a recipe's ``base`` names it; jobs train on it."""
    chat_template: str | None = None
    """Template in place of that base's own, as a recipe's ``chat_template`` names it; a base without one
    needs it. Versions bring the template that they were trained with."""
    auth: bool = True
    """Require an API key. May be off on the loopback address only."""
    cors_origins: tuple[str, ...] = ()
    """Web origins whose pages may call the server, such as ``https://app.example.com``; none by default."""
    max_upload_bytes: int = Field(default=512 * 2**20, ge=1)
    """Size of an uploaded file at most [bytes]."""
    max_body_bytes: int = Field(default=16 * 2**20, ge=1)
    """Size of any other request body at most [bytes]."""
    connections: ConnectionSettings = ConnectionSettings()
    """What one client may take."""
    uploads: CheckSettings = CheckSettings()
    """What uploads may take."""
    grace_s: float = Field(default=25.0, gt=0)
    """Time from SIGTERM or Ctrl-C to the end of the process at most [s]; answers that still run after seven
    tenths of it are ended with an error."""
    min_free_bytes: int = Field(default=64 * 2**20, ge=0)
    """Free disk space under which the server calls itself unhealthy [bytes]."""
    max_in_flight: int = Field(default=256, ge=1)
    """Completions that are being answered or wait for it [count]. Where there are more, one is refused with a
    503 that clients retry by themselves: of the lowest priority, else of the key that has most there for its
    weight, and the newest of those."""
    traffic: TrafficSettings = TrafficSettings()
    """How long requests may take, what is tried again, and who answers instead."""
    limits: LimitSettings = LimitSettings()
    """What callers may use where no rule of `tunery limits` says else, and what models cost."""
    max_adapters: int = Field(default=32, ge=1)
    """Adapters held in memory at once [count]; the least recently used one makes room."""
    defaults: SamplingDefaults = SamplingDefaults()
    """What a request that leaves it open gets."""
    engine: AnyEngine = engine_settings()
    """Which engine answers, by its `kind`, and how it works; the embedded one where `kind` is left out."""
    log: LogSettings = LogSettings()
    """How calls are recorded, and for how long their texts are kept."""
    batches: BatchSettings = BatchSettings()
    """How files of requests are worked off."""
    embeddings: EmbeddingSettings = EmbeddingSettings()
    """What answers `/v1/embeddings`."""
    conversations: ConversationSettings = ConversationSettings()
    """What `previous_response_id` can follow on where stored texts are masked."""
    webhooks: tuple[WebhookSettings, ...] = ()
    """Addresses that are told of what happens: ends of jobs, batches and rollouts, refusals of the gate."""
    canary_interval_s: float = Field(default=5.0, gt=0)
    """Pause between two looks at each running rollout [s]."""
    run_jobs: bool = True
    """Run queued fine-tuning jobs; off where another machine does."""
    jobs: SupervisorSettings = SupervisorSettings()
    """How jobs are run."""
    job_limits: JobLimits = JobLimits()
    """How large a job that comes over the API may be."""
    job_gate: GateConfig = GateConfig()
    """Rules that the model of every job from the API must hold besides the job's own. Without any, a job that
    names no rules either registers its model even where the default gate refuses it: without an alias, and
    with the verdict in its events. Each names its metric, since the goal is the job's to choose; on how many
    rows it is measured follows from the job's files and split."""

    @property
    def chosen_engine(self) -> EngineSettings | None:
        """The engine where one was chosen; None where it is the default as it comes."""
        return self.engine if "engine" in self.model_fields_set else None

    @property
    def job_terms(self) -> JobTerms:
        """What holds for jobs that come over the API."""
        return JobTerms(self.chosen_engine, self.job_limits, self.job_gate.rules)

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can connect."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    @model_validator(mode="after")
    def _floor_is_firm(self) -> Self:
        for number, rule in enumerate(self.job_gate.rules):
            if not rule.metric:
                raise ValueError(
                    f"job_gate.rules[{number}] names no metric, so each job's own goal would say what it is "
                    "about; name one, such as exact_match"
                )
        return self

    @model_validator(mode="after")
    def _no_open_door(self) -> Self:
        if not self.auth and not self.is_loopback:
            raise ValueError(
                f"auth is off and host is {self.host}: anyone who reaches this machine could use it; "
                "keep auth on, or listen on 127.0.0.1"
            )
        if "*" in self.cors_origins:
            raise ValueError("cors_origins: name the origins; '*' would let any web page in")
        return self
