"""Evaluation to model version."""
