"""Edits: changes to rows that a fix or a reviewer asks for, kept, applied, and exchanged as a spreadsheet."""
