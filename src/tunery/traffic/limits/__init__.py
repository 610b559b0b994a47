"""Limits and budgets: reserved before a call is answered, settled by what it used."""
