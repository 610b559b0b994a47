"""Base weights, adapter, tokenizer and chat template to token ids and loss mask; loading."""
