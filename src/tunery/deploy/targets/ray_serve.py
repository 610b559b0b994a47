"""Ray Serve: several replicas of the gateway behind Ray's proxy, in a cluster that is there already."""

from __future__ import annotations

from tunery.deploy.targets import Target

TARGET = Target(
    title="Ray Serve",
    serves=False,
    machines={"cpu": None, "gpu": None},
    next_step="pip install 'ray[serve]' && serve run app:gateway",
)
