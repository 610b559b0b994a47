"""Conversations: raw rows of every shape understood as turns."""
