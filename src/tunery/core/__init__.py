"""Vocabulary of the house: settings, records, ids, errors and the ports that rooms meet at.

Nothing here imports torch, a web framework or SQL.
"""
