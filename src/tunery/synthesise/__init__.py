"""Synthetic rows: written by a teacher model behind an OpenAI-compatible endpoint, for training only."""
