"""A small OpenAI-compatible server in a thread, which can be told to misbehave.

Each completion is answered by ``stub.answer(request, reply)``, of which there are a few below.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from pytest_gpusim.backends.openai.prompts import PROBES
from pytest_gpusim.deployment import EngineSettings
from pytest_gpusim.providers import MeasureInputs
from pytest_gpusim.runs import Run, read_run
from pytest_gpusim.workload.prompts import Prompt
from tests.factories import CPU, TINY, make_workload

Body = dict[str, Any]


class Reply:
    """The answer to one completion request: a stream of events over chunked HTTP."""

    def __init__(self, handler: BaseHTTPRequestHandler, prompt: Any = ()) -> None:
        self._handler = handler
        self._tokens = 0
        self.prompt_tokens = len(prompt.split() if isinstance(prompt, str) else prompt)
        self._begun = False

    def fail(self, status: int, message: str) -> None:
        """An error instead of a stream."""
        self._send(status, json.dumps({"error": {"message": message}}).encode())

    def tokens(
        self, count: int = 1, *, usage: bool = True, last: bool = False, reason: str = "length"
    ) -> None:
        """A chunk with ``count`` tokens, with the running usage or without."""
        self._tokens += count
        choice = {"index": 0, "text": " w" * count, "finish_reason": reason if last else None}
        event: Body = {"choices": [choice]}
        if usage:
            event["usage"] = self._usage()
        self.event(event)

    def usage(self, cached: int | None = None) -> None:
        """The closing event with the totals."""
        usage = self._usage()
        if cached is not None:
            usage["prompt_tokens_details"] = {"cached_tokens": cached}
        self.event({"choices": [], "usage": usage})

    def _usage(self) -> Body:
        return {"prompt_tokens": self.prompt_tokens, "completion_tokens": self._tokens}

    def event(self, document: Any) -> None:
        """Any event."""
        self.raw(b"data: " + json.dumps(document).encode() + b"\n\n")

    def done(self) -> None:
        """The proper end."""
        self.raw(b"data: [DONE]\n\n")
        self._handler.wfile.write(b"0\r\n\r\n")

    def cut(self) -> None:
        """Close the connection in the midst of it."""
        self._handler.wfile.flush()
        self._handler.close_connection = True
        self._handler.connection.shutdown(2)

    def close(self) -> None:
        """Take no further request on this connection."""
        self._handler.close_connection = True

    def raw(self, data: bytes) -> None:
        """A piece of the stream."""
        if not self._begun:
            self._begun = True
            self._handler.send_response(200)
            self._handler.send_header("Content-Type", "text/event-stream")
            self._handler.send_header("Transfer-Encoding", "chunked")
            self._handler.end_headers()
        self._handler.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
        self._handler.wfile.flush()

    def _send(self, status: int, data: bytes) -> None:
        self._handler.send_response(status)
        self._handler.send_header("Content-Length", str(len(data)))
        self._handler.end_headers()
        self._handler.wfile.write(data)


def steady(
    gap_s: float = 0.0, *, usage: bool = True, first_s: float = 0.0
) -> Callable[[Body, Reply], None]:
    """A server that gives the tokens asked for, one a chunk, ``gap_s`` apart."""

    def answer(body: Body, reply: Reply) -> None:
        time.sleep(first_s)
        for index in range(body["max_tokens"]):
            time.sleep(gap_s if index else 0.0)
            reply.tokens(usage=usage, last=index == body["max_tokens"] - 1)
        reply.usage()
        reply.done()

    return answer


@dataclass
class StubServer:
    """The server's state; ``bodies`` and ``headers`` are of the completion requests, in order."""

    url: str = ""
    answer: Callable[[Body, Reply], None] = field(default_factory=steady)
    models: list[Body] = field(default_factory=lambda: [{"id": "tiny", "max_model_len": 4096}])
    pages: dict[str, str] = field(default_factory=dict)
    resets: int | None = 0
    """How often the prefix cache was reset; None for a server that cannot."""
    bodies: list[Body] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)

    close: Callable[[], None] = lambda: None
    """Free the port; answers that are under way go on."""

    @property
    def asked(self) -> list[Body]:
        """The completion requests but for the probe."""
        return [body for body in self.bodies if body["prompt"] not in PROBES.values()]


@contextmanager
def stub_server() -> Iterator[StubServer]:
    """Run a stub server on a free port of the loopback interface."""
    stub = StubServer()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            if self.path == "/v1/models":
                Reply(self)._send(200, json.dumps({"data": stub.models}).encode())
            elif self.path in stub.pages:
                Reply(self)._send(200, stub.pages[self.path].encode())
            else:
                Reply(self).fail(404, "no such page")

        def do_POST(self) -> None:
            content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if self.path == "/reset_prefix_cache" and stub.resets is not None:
                stub.resets += 1
                Reply(self)._send(200, b"")
            elif self.path == "/v1/completions":
                body = json.loads(content)
                stub.bodies.append(body)
                stub.headers.append(dict(self.headers))
                try:
                    stub.answer(body, Reply(self, body["prompt"]))
                except OSError:
                    self.close_connection = True  # the client went away
            else:
                Reply(self).fail(404, "no such page")

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 128

        def handle_error(self, *_: Any) -> None:
            """A broken connection is no news here."""

    server = Server(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    stub.url = f"http://127.0.0.1:{server.server_address[1]}"

    def close() -> None:
        server.shutdown()
        server.server_close()

    stub.close = close
    try:
        yield stub
    finally:
        close()
        thread.join()


def for_length(faults: dict[int, Any]) -> Any:
    """Misbehave for the requests that ask for so many tokens; be steady for the others."""

    def answer(body: Body, reply: Reply) -> None:
        faults.get(body["max_tokens"], steady())(body, reply)

    return answer


def run_on(
    stub: StubServer,
    tmp_path: Path,
    requests: Sequence[tuple[int, int, int]],
    *,
    engine: EngineSettings | None = None,
    prompts: dict[int, Prompt] | None = None,
    repeat: int = 1,
    **params: Any,
) -> list[Run]:
    """Measure (prefill, decode, arrival) requests on a stub, without a warm-up unless asked for."""
    from pytest_gpusim.backends.openai.backend import measure

    workload = make_workload(tmp_path / "workload", requests, prompts)
    outs = [tmp_path / f"run-{number}" for number in range(repeat)]
    given = {"url": stub.url, "warmup": "no", **params}
    measure(MeasureInputs(TINY, CPU, workload, engine or EngineSettings(), outs, given))
    return [read_run(out) for out in outs]


def word_tokenizer(directory: Path, size: int) -> str:
    """A ``tokenizer.json`` with one word per token id, so that text has as many words as ids."""
    import pytest

    tokenizers = pytest.importorskip("tokenizers")
    vocabulary = {f"w{number}": number for number in range(size)}
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, unk_token="w0"))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    tokenizer.save(str(directory / "tokenizer.json"))
    return str(directory / "tokenizer.json")
