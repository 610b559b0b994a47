"""Forward-only, numbered steps from one schema to the next; each says why it was made."""
