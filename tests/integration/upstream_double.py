"""A program that speaks as vLLM and as an endpoint of chat completions do.

Its arguments: port, name, and a file that gets a line with every start.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

FIRST_BYTE_S = 0.03
"""Time until an answer begins [s]."""


class Handler(BaseHTTPRequestHandler):
    """Answers with the model's name and its own; adapters are forgotten with the process."""

    protocol_version = "HTTP/1.1"
    name = ""
    adapters: dict[str, str] = {}  # noqa: RUF012 - of the process; with their folders
    lock = threading.Lock()

    def log_message(self, *args: object) -> None:
        """Be silent."""

    def do_GET(self) -> None:
        models = {"base": "base", **self.adapters}
        self._send(
            {"data": [{"id": name, "max_model_len": 512, "root": root} for name, root in models.items()]}
        )

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path.endswith("/unload_lora_adapter"):
            self.adapters.pop(body["lora_name"], None)
            self._send({})
        elif self.path.endswith("/load_lora_adapter"):
            with self.lock:
                known = body["lora_name"] in self.adapters
                self.adapters.setdefault(body["lora_name"], body["lora_path"])
            why = {"error": {"message": "The lora adapter has already been loaded."}}
            self._send(why if known else {}, 400 if known else 200)
        elif body["model"] not in ("base", *self.adapters):
            self._send({"error": {"message": f"The model `{body['model']}` does not exist."}}, 404)
        elif not body.get("stream"):
            likely = [None, *({str(id): {"logprob": -0.5, "rank": 1}} for id in body["prompt"][1:])]
            self._send({"choices": [{"text": "", "prompt_logprobs": likely}]})
        else:
            time.sleep(FIRST_BYTE_S)
            self._send(self._answer(body), kind="text/event-stream")

    def _answer(self, body: dict[str, Any]) -> str:
        text = f"{body['model']} by {self.name}"
        if "messages" in body:
            choice: dict[str, Any] = {"delta": {"content": text}, "finish_reason": "stop"}
        else:
            choice = {"text": text, "token_ids": [5, 6], "finish_reason": "stop"}
        return f"data: {json.dumps({'choices': [choice]})}\n\ndata: [DONE]\n\n"

    def _send(self, value: Any, status: int = 200, kind: str = "application/json") -> None:
        data = (value if isinstance(value, str) else json.dumps(value)).encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


if __name__ == "__main__":
    Handler.name = sys.argv[2]
    if len(sys.argv) > 3:
        with Path(sys.argv[3]).open("a") as starts:
            starts.write(f"{sys.argv[2]}\n")
    ThreadingHTTPServer.request_queue_size = 128
    server = ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler)
    server.daemon_threads = True
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    server.serve_forever()
