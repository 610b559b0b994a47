"""Records to experiment trackers."""
