"""Importers: exports of other programs, one file each, recognised and taken apart into plain rows."""

SHARED = ("annotations", "recognise", "sampling")
