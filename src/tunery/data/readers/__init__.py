"""Readers: rows of any format, packed or not, in a folder or behind a URL, as raw rows one at a time."""
