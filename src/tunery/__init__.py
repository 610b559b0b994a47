"""Tunery: your own examples in, a small model you can ship and trust out."""

__version__ = "0.1.0"
