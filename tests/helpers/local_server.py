"""An HTTP server on this machine whose transfers go wrong on demand."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


@dataclass
class LocalServer:
    """Serves the files of a folder, with ranges.

    faults: by file name, for one request each, in order: "break" (half of what was asked for, then the end of the
    connection), "stall" (half, then silence for a second), "slow" (in ten parts with pauses), "busy" (503), "gone"
    (404), "no range" (all of it whatever was asked for), "other" (as many other bytes). requests: (file, Range or "").
    """

    folder: Path
    url: str = ""
    faults: dict[str, list[str]] = field(default_factory=dict)
    requests: list[tuple[str, str]] = field(default_factory=list)


@contextmanager
def serve(folder: Path) -> Iterator[LocalServer]:
    server = LocalServer(folder)
    handler = type("Handler", (_Handler,), {"own": server})
    http = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    http.daemon_threads = True
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    server.url = f"http://127.0.0.1:{http.server_address[1]}"
    try:
        yield server
    finally:
        http.shutdown()
        http.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    own: LocalServer

    def do_GET(self) -> None:
        name = self.path.lstrip("/")
        asked = self.headers.get("Range", "")
        self.own.requests.append((name, asked))
        faults = self.own.faults.get(name, [])
        fault = faults.pop(0) if faults else ""
        if fault in ("busy", "gone"):
            return self.send_error(503 if fault == "busy" else 404)
        content = (self.own.folder / name).read_bytes()
        if fault == "other":
            content = b"?" * len(content)
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked and fault != "no range" else 0
        if start and start >= len(content):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(content)}")
            self.send_header("Content-Length", "0")
            return self.end_headers()
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        self._send(content[start:], fault)

    def _send(self, content: bytes, fault: str) -> None:
        half = len(content) // 2
        if fault == "slow":
            step = -(-len(content) // 10)
            for first in range(0, len(content), step):
                self.wfile.write(content[first : first + step])
                time.sleep(0.02)
        else:
            self.wfile.write(content[:half] if fault in ("break", "stall") else content)
        if fault == "stall":
            time.sleep(1)
        self.close_connection = True

    def log_message(self, *_: object) -> None:
        """Silent."""
