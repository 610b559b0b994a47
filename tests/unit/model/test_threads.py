"""Threads of PyTorch: their number is the machine's affair, results are not."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tunery.core.cores import is_intel
from tunery.model.threads import Threads

STEPS = """
import hashlib, json, os, sys
from tunery.core.cores import prepare_threads
os.environ.pop("MKL_CBWR", None)
prepare_threads()
import torch
from transformers import AutoModelForCausalLM
from peft import LoraConfig, get_peft_model
torch.manual_seed(0)
model = get_peft_model(
    AutoModelForCausalLM.from_pretrained(sys.argv[1], dtype=torch.float32),
    LoraConfig(r=8, target_modules="all-linear", init_lora_weights=False),
)
sums = []
for threads in (1, 2, 3):
    torch.set_num_threads(threads)
    sha = hashlib.sha256()
    for length in (7, 64, 300):
        ids = torch.arange(2 * length).reshape(2, length) % 100
        model.zero_grad()
        loss = model(input_ids=ids, labels=ids).loss
        loss.backward()
        sha.update(loss.detach().numpy().tobytes())
        for parameter in model.parameters():
            if parameter.grad is not None:
                sha.update(parameter.grad.numpy().tobytes())
    sums.append(sha.hexdigest())
print(json.dumps(sums))
"""


@pytest.mark.skipif(not is_intel(), reason="only MKL on Intel's processors promises it")
def test_losses_and_gradients_are_equal_to_the_bit_whatever_the_number_of_threads(tiny_model: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", STEPS, str(tiny_model)],
        env={**os.environ, "OMP_NUM_THREADS": "3"},
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    assert len(set(json.loads(done.stdout.splitlines()[-1]))) == 1


def test_a_fixed_number_stays() -> None:
    before = torch.get_num_threads()
    try:
        threads = Threads(3, exact=True)
        for _ in range(3):
            threads.adapt()
        assert torch.get_num_threads() == threads.number == 3
    finally:
        torch.set_num_threads(before)
