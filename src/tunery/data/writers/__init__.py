"""Writers: a dataset version in the formats of other programs, one file each, called as the format is."""

SHARED = ("export", "writer")
