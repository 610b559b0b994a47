"""Dataset version to adapter."""
