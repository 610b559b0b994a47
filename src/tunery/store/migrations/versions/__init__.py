"""One file per step, ``rNNNN_what_it_does.py``."""
