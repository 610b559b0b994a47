"""Ratings and corrections to examples."""
