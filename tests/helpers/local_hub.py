"""A Hugging Face hub on this machine: serves the files of a folder to the real huggingface_hub client."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

COMMIT = "0123456789abcdef0123456789abcdef01234567"
OTHER = "fedcba9876543210fedcba9876543210fedcba98"
REVISIONS = {"main": COMMIT, COMMIT: COMMIT, "v2": OTHER, OTHER: OTHER}


class Hub(ThreadingHTTPServer):
    """Serves ROOT/<owner>/<repo>/<file> under /<owner>/<repo>/resolve/<revision>/<file>, for the REVISIONS.

    requests: which files were asked for, as (method, path). cut: GETs end after this many bytes, once.
    """

    daemon_threads = True

    def __init__(self, root: Path) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.root, self.requests = root, list[tuple[str, str]]()
        self.cut: int | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


@contextmanager
def serve(root: Path) -> Iterator[Hub]:
    with Hub(root) as hub:
        thread = threading.Thread(target=hub.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield hub
        finally:
            hub.shutdown()
            thread.join()


class _Handler(BaseHTTPRequestHandler):
    server: Hub
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def log_message(self, *args: object) -> None:
        pass

    def _answer(self, body: bool) -> None:
        repo, _, rest = self.path.lstrip("/").partition("/resolve/")
        if rest:
            self.server.requests.append((self.command, self.path))
        revision, _, file = rest.partition("/")
        path = self.server.root / repo / file
        if revision not in REVISIONS:
            return self._refuse("RevisionNotFound", f"Invalid rev id: {revision}")
        if not path.is_file():
            missing = "EntryNotFound" if path.parent.is_dir() else "RepoNotFound"
            return self._refuse(missing, f"{file} is not in {repo}")
        content = path.read_bytes()
        start = int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").partition("-")[0])
        self.send_response(206 if start else 200)
        self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
        self.send_header("X-Repo-Commit", REVISIONS[revision])
        self.send_header("Accept-Ranges", "bytes")
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        if body and self.server.cut is not None:
            content, self.server.cut = content[: start + self.server.cut], None
            self.close_connection = True
        if body:
            self.wfile.write(content[start:])

    def _refuse(self, code: str, message: str) -> None:
        self.send_response(404)
        self.send_header("X-Error-Code", code)
        self.send_header("X-Error-Message", message)
        self.send_header("Content-Length", "0")
        self.end_headers()
