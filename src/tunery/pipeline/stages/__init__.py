"""One file a stage: each is a function from records to a record, callable alone."""
