"""Selection: a small strong subset of the training rows."""
