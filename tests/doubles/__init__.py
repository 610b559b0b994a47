"""Servers that stand in for other people's, each over a real socket."""
