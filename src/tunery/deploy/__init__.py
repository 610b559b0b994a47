"""Model version to rollout."""
