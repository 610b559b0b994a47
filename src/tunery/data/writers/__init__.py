"""Writers: a dataset version in the formats of other programs, one file each."""
