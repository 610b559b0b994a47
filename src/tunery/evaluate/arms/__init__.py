"""Arms that are no prompting of the base: a word classifier, models behind endpoints, answers in a file."""
