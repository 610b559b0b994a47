"""Hugging Face Inference Endpoints: vLLM's own image in front of a private repository of the hub."""

from __future__ import annotations

from datetime import date

from tunery.deploy.targets import Price, Target

_READ = (date(2025, 11, 1), "https://huggingface.co/docs/inference-endpoints/support/pricing")

TARGET = Target(
    title="a Hugging Face Inference Endpoint",
    serves=True,
    machines={
        "nvidia-l4": Price(0.80, *_READ),
        "nvidia-t4": Price(0.50, *_READ),
        "nvidia-l40s": Price(1.80, *_READ),
        "nvidia-a100": Price(2.50, *_READ),
    },
    next_step="pip install huggingface_hub && python deploy.py YOUR_NAME/REPOSITORY",
)
