"""Other trainers' configurations, each tool a file that turns one into a recipe."""

SHARED = ("draft", "hf_arguments", "recipe_from")
"""Files that serve the others and are no tool themselves."""
