"""Training methods: one file each, with its settings, its rows and its loss in a constant ``METHOD``."""

SHARED = ("method", "preferences")
"""Files that are no methods."""
