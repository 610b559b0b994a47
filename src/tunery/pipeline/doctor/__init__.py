"""What a file of rows is and what a base would make of it, before any recipe exists."""
