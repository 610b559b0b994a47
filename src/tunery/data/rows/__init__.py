"""Rows on their way through curation."""
