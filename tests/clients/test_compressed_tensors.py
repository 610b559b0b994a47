"""Integer weights opened by the format's own implementation within transformers.

Opt-in: ``TUNERY_COMPRESSED=PYTHON pytest -m clients tests/clients/test_compressed_tensors.py``, where
``PYTHON`` is an interpreter with torch, transformers and compressed-tensors.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tunery.model.integers import INTEGERS, Integers, to_floats, to_integers

pytestmark = [
    pytest.mark.clients,
    pytest.mark.skipif(not os.environ.get("TUNERY_COMPRESSED"), reason="TUNERY_COMPRESSED names no Python"),
]
_ASK = """
import sys, torch
from transformers import AutoModelForCausalLM
ids = torch.arange(5, 25)[None]
models = [AutoModelForCausalLM.from_pretrained(f, dtype=torch.float32) for f in sys.argv[1:]]
a, b = (model(input_ids=ids).logits for model in models)
print((a - b).abs().max().item())
"""


@pytest.mark.parametrize("precision", INTEGERS)
def test_reference_computes_with_the_same_weights(
    tiny_model: Path, tmp_path: Path, precision: Integers
) -> None:
    folder = Path(shutil.copytree(tiny_model, tmp_path / "integers"))
    to_integers(folder, precision)
    to_floats(folder, tmp_path / "floats")
    python = os.environ["TUNERY_COMPRESSED"]
    done = subprocess.run(
        [python, "-c", _ASK, folder, tmp_path / "floats"], check=True, capture_output=True, text=True
    )
    assert float(done.stdout.split()[-1]) == 0.0
