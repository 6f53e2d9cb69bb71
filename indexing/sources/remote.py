"""Reads of remote files: object storage (s3://, gs://, abfs://) and http(s)://, by the scheme of the URI.

Credentials come from the environment (AWS_*, GOOGLE_*, AZURE_*, .netrc) or from the URI itself; `public_uri` is the only form that
may be stored or logged.
"""

import hashlib
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any
from urllib.parse import urlsplit

import pyarrow.fs as pafs
import requests

from cluster.repetition import retry
from indexing.sources.s3_listing import S3BusyError, S3Error, S3Object, list_objects
from indexing.sources.uris import HTTP_SCHEMES, OBJECT_SCHEMES, public_uri, without_secrets

_CHUNK_BYTES = 4 << 20
_TIMEOUT_S = (10.0, 60.0)
_WRONG_KEYS = re.compile(
    r"ACCESS_DENIED|INVALID_?ACCESS_?KEY|INVALID_CLIENT_TOKEN|SIGNATURE_DOES_NOT_MATCH",
    re.IGNORECASE,
)
_WRONG_KEY_CODES = ("AccessDenied", "InvalidAccessKeyId", "InvalidClientTokenId", "SignatureDoesNotMatch")  # fmt: skip
_WHERE_KEYS_ARE = (
    " (keys come from the environment: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, a profile or a role, or "
    "AWS_NO_SIGN_REQUEST=1 for a public bucket)"
)


class SourceError(OSError):
    """A remote file could not be read this time; asking again may help."""


class SourceGoneError(Exception):
    """A remote file is not there, may not be read, or has changed under the reader; asking again does not help."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RemoteStamp:
    """`version` is the ETag, or the modification time where there is none: another content has another one; "" = the server names none."""

    size_bytes: int
    version: str
    modified_s: float | None = field(default=None, compare=False)
    """Seconds since 1970, where a listing tells it."""

    @property
    def content_hash(self) -> str:
        """32 hex digits from version and size; only where there is a version."""
        text = f"remote\x1f{self.version}\x1f{self.size_bytes}"
        return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def stat_remote(uri: str) -> RemoteStamp:
    """One request, no content."""
    if _scheme(uri) in HTTP_SCHEMES:
        return _stat_http(uri)
    filesystem, path = object_storage(uri)
    with _errors(), filesystem.open_input_stream(path) as stream:
        metadata = {str(k): str(v) for k, v in _metadata(stream).items()}
        size, version = metadata.get("Content-Length"), metadata.get("ETag", "").strip('"')
        if size is None or not version:
            info = filesystem.get_file_info(path)
            size, version = info.size or 0, version or str(info.mtime_ns or "")
    return RemoteStamp(size_bytes=int(size), version=version)


def read_remote(uri: str, start: int = 0, *, stamp: RemoteStamp | None = None) -> Iterator[bytes]:
    """The bytes from `start` on; SourceError where the connection breaks, so that the caller goes on from there.

    With a stamp, SourceGoneError when the file is no longer that one.
    """
    if _scheme(uri) in HTTP_SCHEMES:
        yield from _read_http(uri, start, stamp)
        return
    filesystem, path = object_storage(uri)
    if stamp is not None and stat_remote(uri) != stamp:
        raise SourceGoneError(f"{public_uri(uri)} changed while it was read")
    with _errors(), filesystem.open_input_file(path) as file:
        file.seek(start)
        while chunk := file.read(_CHUNK_BYTES):
            yield chunk


def list_remote(uri: str) -> Iterator[tuple[str, RemoteStamp | None]]:
    """The URI of every file below an object-storage folder, with its stamp where the list has it: that of `stat_remote`."""
    if _scheme(uri) in HTTP_SCHEMES:
        raise ValueError(
            f"{public_uri(uri)!r} names no video or clips.parquet, and http has no folders; "
            "give one file, or a clips.parquet that names them"
        )
    folder = f"{uri.rstrip('/')}/"
    if _scheme(uri) == "s3" and (objects := list_objects(folder)) is not None:
        return _list_s3(folder, objects)
    filesystem, path = object_storage(uri)
    root = uri[: len(uri) - len(path)] if uri.endswith(path) else f"{_scheme(uri)}://"

    def entries() -> list[pafs.FileInfo]:
        with _errors():
            selector = pafs.FileSelector(path.rstrip("/"), recursive=True)
            return filesystem.get_file_info(selector)

    files = retry(entries, on=(SourceError,))
    return iter(
        (root + path, None)
        for path in sorted(f.path for f in files if f.type == pafs.FileType.File)
    )


def _list_s3(folder: str, objects: Iterator[S3Object]) -> Iterator[tuple[str, RemoteStamp | None]]:
    bucket = folder[: len(folder) - len(urlsplit(folder).path)]
    try:
        for listed in objects:
            if not listed.key.endswith("/"):
                stamp = RemoteStamp(
                    size_bytes=listed.size_bytes, version=listed.etag, modified_s=listed.modified_s
                )
                yield f"{bucket}/{listed.key}", stamp if listed.etag else None
    except S3Error as error:
        text = f"{public_uri(folder)}: {without_secrets(str(error))}"
        if error.code in _WRONG_KEY_CODES:
            raise SourceGoneError(text + _WHERE_KEYS_ARE) from None
        raise (SourceError if isinstance(error, S3BusyError) else SourceGoneError)(text) from None


def _scheme(uri: str) -> str:
    scheme = uri.partition("://")[0].lower()
    if scheme not in (*OBJECT_SCHEMES, *HTTP_SCHEMES):
        allowed = ", ".join(f"{scheme}://" for scheme in (*OBJECT_SCHEMES, *HTTP_SCHEMES))
        raise SourceGoneError(
            f"{public_uri(uri)}: scheme {scheme!r} is not read; allowed: {allowed}"
        )
    return scheme


def object_storage(uri: str) -> tuple[pafs.FileSystem, str]:
    """The store of a URI, and the path in it, which begins with the bucket."""
    if _scheme(uri) == "s3":
        parts = urlsplit(uri)
        user, _, secret = parts.netloc.rpartition("@")[0].partition(":")
        endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
        region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
        filesystem = _s3(user or None, secret or None, endpoint, region)
        return filesystem, parts.netloc.rpartition("@")[2] + parts.path
    with _errors():
        return pafs.FileSystem.from_uri(uri)


@lru_cache(maxsize=8)
def _s3(
    access_key: str | None, secret_key: str | None, endpoint: str | None, region: str | None
) -> pafs.S3FileSystem:
    options: dict[str, Any] = {"endpoint_override": endpoint} if endpoint else {}
    if access_key:
        options |= {"access_key": access_key, "secret_key": secret_key}
    elif os.environ.get("AWS_NO_SIGN_REQUEST"):
        options["anonymous"] = True
    return pafs.S3FileSystem(region=region, **options)


def _metadata(stream: Any) -> dict[Any, Any]:
    return {
        k.decode() if isinstance(k, bytes) else k: v.decode() if isinstance(v, bytes) else v
        for k, v in (stream.metadata() or {}).items()
    }


class _errors:  # noqa: N801 - reads as a word in a with statement
    """Errors of pyarrow's file systems as ours, without secrets."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, error: BaseException | None, _: Any) -> None:
        if isinstance(error, FileNotFoundError | PermissionError):
            raise SourceGoneError(without_secrets(str(error))) from None
        if isinstance(error, OSError) and not isinstance(error, SourceError):
            text = without_secrets(str(error))
            has_wrong_keys = _WRONG_KEYS.search(text) is not None
            is_final = has_wrong_keys or "NO_SUCH" in text
            text += _WHERE_KEYS_ARE if has_wrong_keys else ""
            raise (SourceGoneError(text) if is_final else SourceError(text)) from None


def _get(uri: str, headers: dict[str, str]) -> requests.Response:
    try:
        response = requests.get(uri, headers=headers, stream=True, timeout=_TIMEOUT_S)
    except requests.RequestException as error:
        raise SourceError(without_secrets(str(error))) from None
    if response.status_code in (408, 429) or response.status_code >= 500:
        response.close()
        raise SourceError(f"{public_uri(uri)}: HTTP {response.status_code}")
    if response.status_code >= 400 and response.status_code != 416:
        response.close()
        raise SourceGoneError(f"{public_uri(uri)}: HTTP {response.status_code}")
    return response


def _stat_http(uri: str) -> RemoteStamp:
    # A GET of one byte, not HEAD: a URL that is signed for GET refuses HEAD.
    with _get(uri, {"Range": "bytes=0-0", "Accept-Encoding": "identity"}) as response:
        return _http_stamp(response)


def _http_stamp(response: requests.Response) -> RemoteStamp:
    headers = response.headers
    total = headers.get("Content-Range", "").rpartition("/")[2]
    size = total if total.isdigit() else headers.get("Content-Length", "0")
    version = headers.get("ETag", "").strip() or headers.get("Last-Modified", "")
    return RemoteStamp(size_bytes=int(size), version=version.removeprefix("W/").strip('"'))


def _read_http(uri: str, start: int, stamp: RemoteStamp | None) -> Iterator[bytes]:
    headers = {"Range": f"bytes={start}-", "Accept-Encoding": "identity"}
    with _get(uri, headers) as response:
        if response.status_code == 416:  # nothing after start
            return
        if stamp is not None and _http_stamp(response) != stamp:
            raise SourceGoneError(f"{public_uri(uri)} changed while it was read")
        skip = start if response.status_code == 200 else 0  # a server without ranges sends it all
        try:
            for chunk in response.iter_content(_CHUNK_BYTES):
                yield chunk[skip:]
                skip = max(skip - len(chunk), 0)
        except requests.RequestException as error:
            raise SourceError(without_secrets(str(error))) from None
