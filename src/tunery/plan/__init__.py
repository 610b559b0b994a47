"""Recipe to forecast."""
