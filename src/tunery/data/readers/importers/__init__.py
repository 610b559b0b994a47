"""Exports of other programs: one file each, recognised and taken apart into plain rows."""
