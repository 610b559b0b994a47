"""From what a rescue saved to a model of our own: recordings, a recipe, its run, the old name."""
