"""Adapter to evaluation."""
