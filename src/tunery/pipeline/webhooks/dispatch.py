"""Takes events out of the outbox and sends them, an endpoint beside the other."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from datetime import timedelta

import httpx2

from tunery.core.errors import ConfigError, TuneryError
from tunery.core.webhook import Delivery
from tunery.pipeline.webhooks.config import WebhookSettings
from tunery.pipeline.webhooks.send import after_attempt, send
from tunery.store.webhooks import Wishes
from tunery.store.workspace import Workspace

_LOG = logging.getLogger(__name__)
_POLL_S = 1.0
"""Pause between two looks for events and for what is due [s]."""
_LEASE_S = 60.0
"""How long a delivery is kept from other servers beyond its time to be answered [s]."""
_ENDED_DAYS, _WAITING_DAYS = 30, 7
"""Days that deliveries are kept behind their end, and events that no server wants."""
_PRUNE_S = 3_600.0
"""Pause between two looks for what is old [s]."""


class Dispatcher:
    """Sends events to the operator's endpoints, from a thread for each, so that none waits for another.

    Args:
        endpoints: Where to; without any, events wait for a server that has some.

    Raises:
        ConfigError: Two endpoints share a name, or a secret is missing.
    """

    def __init__(self, workspace: Workspace, endpoints: Sequence[WebhookSettings]) -> None:
        self._workspace = workspace
        self._endpoints = {endpoint.name: endpoint for endpoint in endpoints}
        if len(self._endpoints) < len(endpoints):
            raise ConfigError("webhooks: two of them have the same name; give each its own", param="webhooks")
        for endpoint in endpoints:
            endpoint.secret()
        self._over = threading.Event()
        self._threads = [
            threading.Thread(target=self._send_all, args=(endpoint,), name=f"webhook-{name}", daemon=True)
            for name, endpoint in self._endpoints.items()
        ]
        self._threads.append(threading.Thread(target=self._fan_out_all, name="webhooks", daemon=True))

    def start(self) -> None:
        """Begin to send."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Begin no more, and return once what is being sent has its answer."""
        self._over.set()
        for thread in self._threads:
            if thread.is_alive():
                thread.join()

    def _fan_out_all(self) -> None:
        wishes = {name: Wishes(e.wants, e.max_pending) for name, e in self._endpoints.items()}
        pause_s, prune_every = (_POLL_S, int(_PRUNE_S / _POLL_S)) if wishes else (_PRUNE_S, 1)
        deliveries, looks = self._workspace.webhooks, 0
        while not self._over.is_set():
            try:
                while wishes and deliveries.fan_out(wishes):
                    pass
                if looks % prune_every == 0:
                    ended, waiting = timedelta(days=_ENDED_DAYS), timedelta(days=_WAITING_DAYS)
                    deliveries.prune(ended_for=ended, waiting_for=waiting)
                looks += 1
            except Exception as error:
                _stumbled(error)
            self._over.wait(pause_s)

    def _send_all(self, endpoint: WebhookSettings) -> None:
        with httpx2.Client(timeout=endpoint.timeout_s, follow_redirects=False) as client:
            while not self._over.is_set():
                try:
                    delivery = self._workspace.webhooks.take(endpoint.name, endpoint.timeout_s + _LEASE_S)
                    if delivery is not None:
                        self._send(client, endpoint, delivery)
                        continue
                except Exception as error:
                    _stumbled(error)
                self._over.wait(_POLL_S)

    def _send(self, client: httpx2.Client, endpoint: WebhookSettings, delivery: Delivery) -> None:
        now = self._workspace.clock.now
        outcome = send(client, endpoint, delivery, now())
        self._workspace.webhooks.change(delivery.id, lambda current: after_attempt(current, outcome, now()))
        if outcome.status == "dead":
            _LOG.warning(
                "webhook %s: %s of %s: %s",
                endpoint.name,
                delivery.event.type,
                delivery.event.data.get("id"),
                outcome.problem,
            )


def _stumbled(error: Exception) -> None:
    if isinstance(error, TuneryError):
        _LOG.warning("webhooks wait: %s", error.message)
    else:
        _LOG.exception("sending webhooks failed; it is tried again")
