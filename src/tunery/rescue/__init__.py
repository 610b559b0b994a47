"""Fine-tuned models that somebody else will switch off: what there is of them, what is saved of it here."""
