"""Base weights, adapter, tokenizer and chat template to token ids and loss mask; loading."""

import logging

# Once it is installed PEFT imports it in every process, and it warns of kernels that are not there.
logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
