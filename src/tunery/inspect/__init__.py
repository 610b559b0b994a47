"""Inspection: a dataset version in, findings out."""
