"""Build a tiny Llama with a ChatML template from a seed: real in every respect but size."""

from __future__ import annotations

from pathlib import Path

CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
CORPUS = [
    "I am still waiting on my card, when will it arrive?",
    "card arrival, lost or stolen card, exchange rate, top up failed, cash withdrawal charge",
    "The capital of France is Paris. One two three four five six seven eight nine ten.",
    '{"company": "TAN WOON YANN", "date": "25/12/2018", "total": "9.00"}',
    "You are a helpful assistant. Name the intent of the customer's message.",
]


def build_tiny(folder: Path, *, seed: int = 0, layers: int = 2, hidden: int = 64) -> Path:
    """Write config, safetensors, tokenizer and template of a random Llama with about 0.2M parameters."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    bpe.train_from_iterator(
        CORPUS,
        trainers.BpeTrainer(
            vocab_size=512,
            special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        bos_token="<|im_start|>",
        eos_token="<|im_end|>",
        pad_token="<|im_end|>",
        unk_token="<|endoftext|>",
        chat_template=CHATML,
        model_max_length=512,
        clean_up_tokenization_spaces=False,
    )
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=hidden,
        intermediate_size=2 * hidden,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        tie_word_embeddings=True,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=2,
        initializer_range=0.1,
    )
    rng = torch.random.get_rng_state()
    torch.manual_seed(seed)
    model = LlamaForCausalLM(config)
    torch.random.set_rng_state(rng)
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def build_adapter(base: Path, folder: Path, *, seed: int, rank: int = 4, **lora: bool) -> Path:
    """Write a PEFT LoRA folder with random, non-zero weights on every linear layer of ``base``.

    Args:
        lora: Kinds, such as ``use_dora=True``.
    """
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    peft = get_peft_model(model, LoraConfig(r=rank, lora_alpha=2 * rank, target_modules="all-linear", **lora))
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in peft.named_parameters():
        if "lora_magnitude" in name:
            parameter.data *= 1 + 0.3 * torch.randn(parameter.shape, generator=generator)
        elif "lora_" in name:
            parameter.data = torch.randn(parameter.shape, generator=generator) * 0.1
    peft.save_pretrained(folder)
    return folder
