"""The embedded engine: torch on Hugging Face weights and PEFT adapters."""
