"""A dataset version as it is stored: its tables, its card, what differs between two."""
