"""Model version to completions."""
