"""Raw files to a dataset version."""
