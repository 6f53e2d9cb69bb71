"""A local web server with range requests, weak connections and signatures, and enough of S3 for a real S3 client to list and read."""

import hashlib
import hmac
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import SplitResult, parse_qs, quote_plus, unquote, urlsplit
from xml.sax.saxutils import escape


class RemoteServer(ThreadingHTTPServer):
    """Serves a folder: GET and HEAD of files, and `?list-type=2` of the folder as an S3 bucket of any name."""

    daemon_threads = True

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.folder = folder
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self.requests: list[str] = []
        self.num_breaks = 0
        """So many of the next answers stop half way."""
        self.has_ranges = True
        self.has_versions = True
        self.needs_signature = ""
        """Of HTTP requests, as their query's X-Amz-Signature."""
        self.s3_secret = ""
        """What S3 requests must be signed with (AWS Signature Version 4); "" = anything goes."""
        self.keys_per_page = 1000
        self.delay_s = 0.0
        """Before the bytes of a file."""


@contextmanager
def serve_folder(folder: Path) -> Iterator[RemoteServer]:
    server = RemoteServer(folder)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: RemoteServer

    def log_message(self, format: str, *args: object) -> None:
        self.server.requests.append(f"{self.command} {self.path} {self.headers.get('Range', '')}")

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        query = parse_qs(parts.query, keep_blank_values=True)
        wanted = self.server.needs_signature
        if wanted and query.get("X-Amz-Signature") != [wanted]:
            self._answer(403, b"refused")
            return
        if self.server.s3_secret and not self._is_signed(parts):
            self._answer(403, b"<Error><Code>SignatureDoesNotMatch</Code></Error>")
            return
        if "list-type" in query:
            first = int(query.get("continuation-token", ["0"])[0])
            bucket, prefix = unquote(parts.path).strip("/"), query.get("prefix", [""])[0]
            self._list(bucket, prefix, first, is_encoded="encoding-type" in query)
            return
        path = self.server.folder / unquote(parts.path).lstrip("/")
        if not path.is_file():
            self._answer(404, b"<Error><Code>NoSuchKey</Code></Error>")
            return
        self._send_file(path)

    do_HEAD = do_GET

    def _send_file(self, path: Path) -> None:
        data, headers = path.read_bytes(), {"Accept-Ranges": "bytes"}
        if self.server.has_versions:
            headers["ETag"] = f'"{hashlib.md5(data).hexdigest()}"'
            headers["Last-Modified"] = formatdate(path.stat().st_mtime, usegmt=True)
        if self.command == "GET":
            time.sleep(self.server.delay_s)
        asked = self.headers.get("Range")
        if not asked or not self.server.has_ranges:
            self._answer(200, data, headers)
            return
        first, _, last = asked.removeprefix("bytes=").partition("-")
        start, end = int(first), min(int(last or len(data)), len(data) - 1)
        if start >= len(data):
            self._answer(416, b"", {"Content-Range": f"bytes */{len(data)}"})
            return
        headers["Content-Range"] = f"bytes {start}-{end}/{len(data)}"
        self._answer(206, data[start : end + 1], headers)

    def _is_signed(self, parts: SplitResult) -> bool:
        found = re.fullmatch(
            r"AWS4-HMAC-SHA256 Credential=[^/]+/([^,]+), ?SignedHeaders=([^,]+), ?Signature=(\w+)",
            self.headers.get("Authorization", ""),
        )
        if found is None:
            return False
        scope, names, signature = found.groups()
        headers = [f"{name}:{self.headers.get(name, '').strip()}\n" for name in names.split(";")]
        content = self.headers["x-amz-content-sha256"]
        pairs = "&".join(sorted(parts.query.split("&")))
        request = "\n".join([self.command, parts.path, pairs, "".join(headers), names, content])
        digest = hashlib.sha256(request.encode()).hexdigest()
        key = f"AWS4{self.server.s3_secret}".encode()
        for word in scope.split("/"):
            key = hmac.digest(key, word.encode(), "sha256")
        text = "\n".join(["AWS4-HMAC-SHA256", self.headers["x-amz-date"], scope, digest])
        return hmac.new(key, text.encode(), "sha256").hexdigest() == signature

    def _list(self, bucket: str, prefix: str, first: int, *, is_encoded: bool) -> None:
        root = self.server.folder / bucket
        files = {one.relative_to(root).as_posix(): one for one in root.rglob("*") if one.is_file()}
        keys = [(key, files[key].read_bytes()) for key in sorted(files) if key.startswith(prefix)]
        page, end = keys[first:], first + self.server.keys_per_page
        page = page[: self.server.keys_per_page]
        contents = "".join(
            f"<Contents><Key>{quote_plus(key) if is_encoded else escape(key)}</Key><Size>{len(data)}</Size>"
            f"<ETag>&quot;{hashlib.md5(data).hexdigest()}&quot;</ETag>"
            "<LastModified>2026-01-01T00:00:00.000Z</LastModified></Contents>"
            for key, data in page
        )
        more = f"<NextContinuationToken>{end}</NextContinuationToken>" if end < len(keys) else ""
        text = (
            f"<ListBucketResult><Name>{bucket}</Name><Prefix>{escape(prefix)}</Prefix>"
            f"{'<EncodingType>url</EncodingType>' if is_encoded else ''}"
            f"<IsTruncated>{str(bool(more)).lower()}</IsTruncated>{more}{contents}</ListBucketResult>"
        )
        self._answer(200, text.encode(), {"Content-Type": "application/xml"})

    def _answer(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "HEAD":
            return
        if self.server.num_breaks and len(body) > 1000:
            self.server.num_breaks -= 1
            self.wfile.write(body[: len(body) // 2])
            self.close_connection = True
            return
        self.wfile.write(body)
