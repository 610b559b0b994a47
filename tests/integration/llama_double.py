"""A program that speaks as llama.cpp's server does: ``-m FILE --host H --port P GATE [--lora FILE …]``.

With an adapter it listens once the file GATE is there.
"""

from __future__ import annotations

import json
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any


class Handler(BaseHTTPRequestHandler):
    """Answers with the file of the adapter that a request gives a factor."""

    protocol_version = "HTTP/1.1"
    adapters: list[str] = []  # noqa: RUF012 - of the process

    def log_message(self, *args: object) -> None:
        """Be silent."""

    def do_GET(self) -> None:
        self._send(json.dumps({"data": [{"id": "base"}]}), "application/json")

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        chosen = [self.adapters[one["id"]] for one in body["lora"] if one["scale"]]
        piece: dict[str, Any] = {"content": "".join(chosen) or "base", "tokens": [5], "stop": True}
        self._send(f"data: {json.dumps(piece | {'stop_type': 'eos'})}\n\n", "text/event-stream")

    def _send(self, text: str, kind: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())


if __name__ == "__main__":
    words = sys.argv[1:]
    Handler.adapters = [Path(words[n + 1]).stem for n, word in enumerate(words) if word == "--lora"]
    gate = Path(words[6])
    while Handler.adapters and not gate.exists():
        time.sleep(0.02)
    server = ThreadingHTTPServer(("127.0.0.1", int(words[5])), Handler)
    server.daemon_threads = True
    server.serve_forever()
