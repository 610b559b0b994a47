"""File formats: one reader each, from bytes to raw rows."""
