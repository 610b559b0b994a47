"""Labels that are probably wrong, and preference pairs whose order is probably reversed."""
