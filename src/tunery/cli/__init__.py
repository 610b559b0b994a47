"""Command line: a thin face over the pipeline."""
