"""Splits: which rows are held out, with groups kept whole."""
