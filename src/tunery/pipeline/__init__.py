"""Composition only: the loop, the job queue, resume."""
