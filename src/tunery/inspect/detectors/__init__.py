"""Findings: one detector a file, each from columns to findings; ``inspect`` runs them all."""
