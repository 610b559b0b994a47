"""Intervals and tests for paired and clustered rows, agreement, and means corrected by a few labels."""
