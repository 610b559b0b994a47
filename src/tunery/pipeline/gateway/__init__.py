"""The gateway: served requests, from a model's name to a logged answer."""
