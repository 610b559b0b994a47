"""Where files lie and how they are packed: folders, URLs, compression, lines."""
