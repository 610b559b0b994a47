"""Kubernetes: gateway, engine, worker, PostgreSQL and Redis as plain manifests with a kustomization."""

from __future__ import annotations

from tunery.deploy.targets import Target

TARGET = Target(
    title="Kubernetes",
    serves=False,
    machines={"nvidia.com/gpu": None},
    next_step="read README.md, fill in secrets.env, then: kubectl apply -k .",
)
