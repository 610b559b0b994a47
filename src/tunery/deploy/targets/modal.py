"""Modal: a function with a GPU that sleeps while nobody calls."""

from __future__ import annotations

from datetime import date

from tunery.deploy.targets import Price, Target

_READ = (date(2026, 5, 7), "https://modal.com/pricing (reported by techbytes.app)")

TARGET = Target(
    title="Modal",
    serves=True,
    machines={
        "L4": Price(0.80, *_READ),
        "T4": Price(0.59, *_READ),
        "L40S": Price(1.95, *_READ),
        "A100-80GB": Price(2.50, *_READ),
        "H100": Price(3.95, *_READ),
    },
    next_step="pip install modal && modal run app.py::upload && modal deploy app.py",
)
