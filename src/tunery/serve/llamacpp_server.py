"""llama.cpp's server by the package ``xllamacpp``: ``llamacpp_server.py SETTINGS``, a JSON object.

A file of its own that needs nothing of ours, so that another interpreter's package can run it. The key comes
in ``LLAMA_API_KEY``, because whoever is on the machine reads command lines.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from typing import Any


def main(settings: dict[str, Any]) -> int:
    """Serve until a signal; returns 127 where the package is not installed."""
    try:
        import xllamacpp
    except ImportError as error:
        sys.stderr.write(f"xllamacpp is not installed ({error}); pip install 'tunery[llamacpp]'\n")
        return 127
    params = xllamacpp.CommonParams()
    params.model.path = settings["model"]
    params.hostnames, params.port = [settings["host"]], int(settings["port"])
    params.api_keys = [key] if (key := os.environ.get("LLAMA_API_KEY")) else []
    params.n_parallel = settings["slots"]
    params.n_ctx = settings["context"] * settings["slots"]  # shared out evenly
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = settings["threads"]
    params.n_batch, params.n_ubatch = 2048, 512
    params.fit_params, params.ui, params.warmup = False, False, True
    params.cache_ram_mib = settings["cache_mib"]
    params.verbosity = 2  # 3 tells of every request
    adapters = []
    for path in settings["adapters"]:
        adapter = xllamacpp.CommonAdapterLoraInfo()
        adapter.path, adapter.scale = path, 0.0
        adapters.append(adapter)
    params.lora_adapters = adapters
    server = xllamacpp.Server(params)
    sys.stderr.write(f"listening on {server.listening_address}\n")
    signal.sigwait({signal.SIGTERM, signal.SIGINT})
    del server
    return 0


if __name__ == "__main__":
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
    sys.exit(main(json.loads(sys.argv[1])))
