"""Vocabulary of all packages: settings, records, ids, errors and the ports they meet at.

Nothing here imports torch, a web framework or SQL.
"""
