"""Training methods: one file each, with its settings, its rows and its loss."""
