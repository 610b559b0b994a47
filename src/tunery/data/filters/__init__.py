"""Filters: one file each, which keeps an example or drops it with a reason."""
