"""Provide a local HTTP server with the hub's layout that can truncate, corrupt or omit files."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class Served:
    """Files of the server and its simulated failures.

    Attributes:
        files: Path to content: `ORG/REPO/model.safetensors` for the hub, `models/FILE` for plain addresses.
        repos: Repositories that exist; a missing file in them is "entry not found".
        break_after: Path to the number of bytes after which the connection is cut.
        num_breaks: Path to the remaining number of such interruptions.
        wrong_content: Path to the content that is sent instead of the announced one.
        requests: Method, path and range of every request.
    """

    files: dict[str, bytes] = field(default_factory=dict)
    repos: set[str] = field(default_factory=set)
    break_after: dict[str, int] = field(default_factory=dict)
    num_breaks: dict[str, int] = field(default_factory=dict)
    wrong_content: dict[str, bytes] = field(default_factory=dict)
    requests: list[tuple[str, str, str]] = field(default_factory=list)
    address: str = ""

    def add_hub(self, repo: str, filename: str, content: bytes) -> None:
        """Add a file to a repository."""
        self.repos.add(repo)
        self.files[f"{repo}/{filename}"] = content

    def gets(self, path: str) -> list[str]:
        """Return the ranges of all GET requests of a path."""
        return [r for m, p, r in self.requests if m == "GET" and p == path]


def _handler(served: Served) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *args: object) -> None:
            pass

        def do_HEAD(self) -> None:
            self._answer(has_body=False)

        def do_GET(self) -> None:
            self._answer(has_body=True)

        def _answer(self, has_body: bool) -> None:
            path = self.path.split("?")[0].lstrip("/")
            is_hub = "/resolve/" in path
            if is_hub:
                repo, _, rest = path.partition("/resolve/")
                path = f"{repo}/{rest.partition('/')[2]}"
            byte_range = self.headers.get("Range", "")
            served.requests.append((self.command, path, byte_range))
            content = served.files.get(path)
            if content is None:
                code = "RepoNotFound" if is_hub and path.rpartition("/")[0] not in served.repos else "EntryNotFound"
                self.send_response(404)
                self.send_header("X-Error-Code", code)
                self.send_header("X-Repo-Commit", COMMIT)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            announced = hashlib.sha256(content).hexdigest()
            content = served.wrong_content.get(path, content)
            begin = int(byte_range.removeprefix("bytes=").partition("-")[0]) if byte_range else 0
            if begin >= len(content):
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(content)}")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            self.send_response(206 if byte_range else 200)
            self.send_header("ETag", f'"{announced}"')
            self.send_header("X-Linked-Etag", f'"{announced}"')
            self.send_header("X-Linked-Size", str(len(content)))
            self.send_header("X-Repo-Commit", COMMIT)
            self.send_header("Accept-Ranges", "bytes")
            self.send_header("Content-Length", str(len(content) - begin))
            if byte_range:
                self.send_header("Content-Range", f"bytes {begin}-{len(content) - 1}/{len(content)}")
            self.end_headers()
            if not has_body:
                return
            if served.num_breaks.get(path, 0) > 0:
                served.num_breaks[path] -= 1
                self.wfile.write(content[begin : begin + served.break_after[path]])
                self.wfile.flush()
                self.close_connection = True
                self.connection.close()
                return
            self.wfile.write(content[begin:])

    return Handler


@contextmanager
def serving() -> Iterator[Served]:
    """Return a server on a free port of this machine."""
    served = Served()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(served))
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    served.address = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield served
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
