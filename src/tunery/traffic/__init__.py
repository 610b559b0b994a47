"""What stands between callers and engines: who may use how much, whose turn it is, what is refused."""
