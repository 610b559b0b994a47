"""A server whose engines are elsewhere computes nothing, and loads nothing that computes until it has to."""

from __future__ import annotations

import subprocess
import sys

LOADED = """
import sys
import tunery.api.app, tunery.api.server
from tunery.serve.engines import engine_settings
engine_settings({"kind": "upstream", "base_url": "http://127.0.0.1:1/v1"})
print(*sorted({name.partition(".")[0] for name in sys.modules}))
"""


def test_starting_a_server_loads_neither_arrays_nor_tables_nor_models() -> None:
    done = subprocess.run([sys.executable, "-c", LOADED], capture_output=True, text=True, check=True)
    heavy = {"numpy", "pandas", "pyarrow", "scipy", "sklearn", "torch", "transformers", "peft", "openai"}
    assert not set(done.stdout.split()) & heavy
