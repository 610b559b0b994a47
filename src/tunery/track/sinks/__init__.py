"""Sinks: one file each, which writes what is tracked of a run to one experiment tracker.

A further sink is one further file here, with a constant ``SINK``: its settings, which a recipe gives under
``track.<file name>``, and what opens it. Whatever it raises costs a warning, never the run.
"""

SHARED = ("sink",)
