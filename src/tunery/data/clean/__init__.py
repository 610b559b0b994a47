"""Cleaning: texts repaired, personal data masked."""
