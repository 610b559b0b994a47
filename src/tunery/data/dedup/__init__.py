"""Deduplication: rows that repeat an earlier one."""
