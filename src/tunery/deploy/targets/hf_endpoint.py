"""Hugging Face Inference Endpoints: vLLM's own image in front of a private repository of the hub.

No report of its prices for GPUs was at hand when this was written; its own list is at
https://huggingface.co/docs/inference-endpoints/support/pricing.
"""

from __future__ import annotations

from tunery.deploy.targets import Target

TARGET = Target(
    title="a Hugging Face Inference Endpoint",
    serves=True,
    machines=dict.fromkeys(("nvidia-l4", "nvidia-t4", "nvidia-l40s", "nvidia-a100")),
    next_step="pip install huggingface_hub && python deploy.py YOUR_NAME/REPOSITORY",
)
