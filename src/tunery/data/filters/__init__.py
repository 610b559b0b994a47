"""Filters: one file each, which keeps an example or drops it with a reason.

A further filter is one further file here. Its class holds everything that others need to know of it, and
:mod:`tunery.data.filters.filters` finds it: its settings are the recipe's ``data.filters.<file name>``, its
reasons are counted in the dataset version and explained in the data card.
"""

SHARED = ("filters",)
