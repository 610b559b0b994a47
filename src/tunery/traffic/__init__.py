"""What stands between callers and engines: whose turn it is, what is tried again, what is refused."""
