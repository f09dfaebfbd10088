"""A server on loopback around a model of transformers: its log-probabilities are those of a plain forward pass.

`transformers serve` tells no log-probabilities, and what tells them is no package that installs in seconds; so this one
computes them one by one, in the shapes of OpenAI's chats and completions. It counts what it is asked.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import torch
import transformers

Reply = tuple[int, dict[str, str], bytes]
"""Status, headers, body."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self._send(self.server.give(self.path, body, self.headers))  # type: ignore[attr-defined]

    def do_GET(self) -> None:
        self._send(self.server.give(self.path, {}, self.headers))  # type: ignore[attr-defined]

    def _send(self, reply: Reply) -> None:
        status, headers, content = reply
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(content))} | headers).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *args: Any) -> None:
        pass


class Quiet(ThreadingHTTPServer):
    """Clients that hang up are no news."""

    daemon_threads = True

    def handle_error(self, *args: Any) -> None:
        pass


@contextmanager
def served(give: Callable[[str, dict[str, Any], Any], Reply]) -> Iterator[str]:
    """The address of a server that answers (path, body, headers) by `give`."""
    server = Quiet(("127.0.0.1", 0), Handler)
    server.give = give  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def ok(body: Any) -> Reply:
    """A body with status 200."""
    return 200, {"Content-Type": "application/json"}, json.dumps(body).encode()


class ModelServer:
    """A causal model behind the two doors.

    `asked` holds every body that came in. `only` are the tokens that may be told of, the likeliest of which are told.
    """

    def __init__(self, folder: Path) -> None:
        self.tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
        self.model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
        self.asked: list[dict[str, Any]] = []
        self.tells_numbers = True
        self.only: list[int] | None = None
        self.pieces = self.tokenizer.batch_decode([[token] for token in range(self.model.config.vocab_size)])
        self._lock = threading.Lock()

    def __call__(self, path: str, body: dict[str, Any], headers: Any) -> Reply:
        if path.endswith("/models"):
            return ok({"object": "list", "data": [{"id": "tiny", "object": "model"}]})
        with self._lock:
            self.asked.append(body)
            return ok(self._chat(body) if path.endswith("/chat/completions") else self._completion(body))

    def _chat(self, body: dict[str, Any]) -> dict[str, Any]:
        text = self.tokenizer.apply_chat_template(body["messages"], tokenize=False, add_generation_prompt=True)
        ids = self._ids(text, special=False)
        top = body.get("top_logprobs", 0) if body.get("logprobs") else 0
        steps, end = self._write(ids, body["max_tokens"], top)
        content = [
            {"token": text, "logprob": number, "top_logprobs": [{"token": a, "logprob": b} for a, b in likeliest]}
            for _, text, number, likeliest in steps
        ]
        told = {"logprobs": {"content": content}} if top and self.tells_numbers else {}
        message = {"role": "assistant", "content": self._text([step[0] for step in steps])}
        return self._body({"message": message, "finish_reason": end, **told}, ids, steps)

    def _completion(self, body: dict[str, Any]) -> dict[str, Any]:
        ids = self._ids(body["prompt"], special=True)
        top = body.get("logprobs", 0)
        steps, end = self._write(ids, body["max_tokens"], top)
        read = self._read(ids, top) if body.get("echo") else []
        rows = [*read, *steps]
        offsets = [len(self._text([row[0] for row in rows[:index]])) for index in range(len(rows))]
        logprobs = {
            "tokens": [row[1] for row in rows],
            "token_logprobs": [row[2] for row in rows],
            "top_logprobs": [dict(row[3]) if row[3] else None for row in rows],
            "text_offset": offsets,
        }
        told = {"logprobs": logprobs} if top and self.tells_numbers else {}
        text = self._text([row[0] for row in rows])
        return self._body({"text": text, "finish_reason": end, **told}, ids, steps)

    def _body(self, choice: dict[str, Any], ids: list[int], steps: list[Any]) -> dict[str, Any]:
        usage = {"prompt_tokens": len(ids), "completion_tokens": len(steps)}
        return {"model": "tiny", "system_fingerprint": "fp_1", "choices": [{"index": 0, **choice}], "usage": usage}

    @torch.inference_mode()
    def _write(self, ids: list[int], most: int, top: int) -> tuple[list[Any], str]:
        written: list[Any] = []
        while len(written) < most:
            numbers = self.model(torch.tensor([[*ids, *(row[0] for row in written)]])).logits[0, -1]
            token = int(numbers.argmax())
            if token == self.tokenizer.eos_token_id:
                return written, "stop"
            written.append(self._row(numbers, token, top))
        return written, "length"

    @torch.inference_mode()
    def _read(self, ids: list[int], top: int) -> list[Any]:
        numbers = self.model(torch.tensor([ids])).logits[0]
        first = (ids[0], self.pieces[ids[0]], None, [])
        return [first, *(self._row(row, token, top) for row, token in zip(numbers[:-1], ids[1:], strict=True))]

    def _row(self, numbers: torch.Tensor, token: int, top: int) -> tuple[int, str, float, list[tuple[str, float]]]:
        shares = numbers.double().log_softmax(0)
        among = torch.arange(len(shares)) if self.only is None else torch.tensor(self.only)
        best = shares[among].topk(min(top, len(among)))
        pairs = zip(among[best.indices].tolist(), best.values.tolist(), strict=True)
        likeliest = [(self.pieces[index], value) for index, value in pairs]
        return token, self.pieces[token], shares[token].item(), likeliest

    def _ids(self, text: str, *, special: bool) -> list[int]:
        return list(self.tokenizer(text, add_special_tokens=special)["input_ids"])

    def _text(self, ids: list[int]) -> str:
        return str(self.tokenizer.decode(ids, skip_special_tokens=True))
