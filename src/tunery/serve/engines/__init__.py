"""Engines: whatever turns token ids into completions behind :class:`tunery.core.engine.Engine`."""
