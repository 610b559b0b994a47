"""Raw files in, dataset version out: read, clean, mask, deduplicate, check, split, write."""
