"""The gate: rules written before training, what their rows can show, and the verdict after it."""
