"""Lists objects of an S3 bucket with what identifies each of them: one request for a thousand objects, where a HEAD is one each.

pyarrow lists too, without ETags, and does not tell the keys that it finds in profiles and roles: with those, `list_objects` gives None.
Requests are signed as AWS Signature Version 4 says (docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html).
"""

import hashlib
import hmac
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from urllib.parse import quote, unquote, unquote_plus, urlsplit
from xml.etree import ElementTree

import pyarrow.fs as pafs
import requests

from cluster.repetition import retry

_TIMEOUT_S = (10.0, 60.0)
_EMPTY_SHA256 = hashlib.sha256(b"").hexdigest()


class S3Error(OSError):
    """An answer that is no list; `code` is that of S3, such as SignatureDoesNotMatch, or "" where the connection failed."""

    def __init__(self, message: str, code: str = "", status: int = 0) -> None:
        super().__init__(message)
        self.code, self.status = code, status


class S3BusyError(S3Error):
    """An answer that may be another one in a while."""


@dataclass(frozen=True, kw_only=True, slots=True)
class S3Object:
    """One object of a listing."""

    key: str
    size_bytes: int
    etag: str
    """"" where the store lists none."""
    modified_s: float | None
    """Seconds since 1970; None where the store does not tell it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Keys:
    access: str
    secret: str = field(repr=False)
    token: str = field(repr=False)


def list_objects(uri: str) -> Iterator[S3Object] | None:
    """All objects whose keys begin with that of an s3:// URI, in the order of their keys, page by page; None without keys in the
    URI or the environment."""
    parts = urlsplit(uri)
    user, _, secret = parts.netloc.rpartition("@")[0].partition(":")
    if user:
        keys = _Keys(access=unquote(user), secret=unquote(secret), token="")
    elif os.environ.get("AWS_ACCESS_KEY_ID") and os.environ.get("AWS_SECRET_ACCESS_KEY"):
        keys = _Keys(
            access=os.environ["AWS_ACCESS_KEY_ID"],
            secret=os.environ["AWS_SECRET_ACCESS_KEY"],
            token=os.environ.get("AWS_SESSION_TOKEN", ""),
        )
    elif os.environ.get("AWS_NO_SIGN_REQUEST"):
        keys = None
    else:
        return None
    return _pages(parts.netloc.rpartition("@")[2], parts.path.lstrip("/"), keys)


def _pages(bucket: str, prefix: str, keys: _Keys | None) -> Iterator[S3Object]:
    base, region = _place(bucket)
    query = {"list-type": "2", "prefix": prefix, "encoding-type": "url"}
    with requests.Session() as session:
        while True:
            page = retry(lambda: _page(session, base, query, keys, region), on=(S3BusyError,))
            yield from _objects(page)
            token = page.findtext("{*}NextContinuationToken")
            if not token:
                return
            query["continuation-token"] = token


def _place(bucket: str) -> tuple[str, str]:
    """(URL of a bucket, region)."""
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or ""
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    if endpoint:
        endpoint = endpoint if "://" in endpoint else f"https://{endpoint}"
        return f"{endpoint.rstrip('/')}/{bucket}", region or "us-east-1"
    region = region or pafs.resolve_s3_region(bucket)
    if "." in bucket:  # no certificate is valid for a name with dots below the region's
        return f"https://s3.{region}.amazonaws.com/{bucket}", region
    return f"https://{bucket}.s3.{region}.amazonaws.com/", region


def _page(
    session: requests.Session, base: str, query: Mapping[str, str], keys: _Keys | None, region: str
) -> ElementTree.Element:
    text = "&".join(f"{quote(k, safe='')}={quote(v, safe='')}" for k, v in sorted(query.items()))
    headers = _signed(base, text, keys, region) if keys else {}
    try:
        response = session.get(f"{base}?{text}", headers=headers, timeout=_TIMEOUT_S)
        body = response.content
    except requests.RequestException as error:
        raise S3BusyError(str(error)) from None
    if response.status_code != 200:
        code = re.search(rb"<Code>(\w+)</Code>", body)
        name = code.group(1).decode() if code else ""
        status = response.status_code
        kind = S3BusyError if status in (408, 429) or status >= 500 else S3Error
        raise kind(f"HTTP {status} {name}".strip(), name, status)
    try:
        return ElementTree.fromstring(body)
    except ElementTree.ParseError as error:
        raise S3BusyError(f"the list of objects is no XML ({error})") from None


def _objects(page: ElementTree.Element) -> Iterator[S3Object]:
    is_encoded = (
        page.findtext("{*}EncodingType") == "url"
    )  # asked for: keys may hold what XML may not
    for entry in page.iterfind("{*}Contents"):
        values = {child.tag.rpartition("}")[2]: child.text or "" for child in entry}
        key = unquote_plus(values["Key"]) if is_encoded else values["Key"]
        yield S3Object(
            key=key,
            size_bytes=int(values["Size"]),
            etag=values.get("ETag", "").strip('"'),
            modified_s=_time_of(values.get("LastModified", "")),
        )


def _time_of(text: str) -> float | None:
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError:
        return None


def _signed(base: str, query: str, keys: _Keys, region: str) -> dict[str, str]:
    """Headers of a GET."""
    parts = urlsplit(base)
    now = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    headers = {"host": parts.netloc, "x-amz-content-sha256": _EMPTY_SHA256, "x-amz-date": now}
    if keys.token:
        headers["x-amz-security-token"] = keys.token
    names = ";".join(sorted(headers))
    lines = "".join(f"{name}:{headers[name]}\n" for name in sorted(headers))
    path = quote(parts.path or "/", safe="/-_.~")
    request = "\n".join(["GET", path, query, lines, names, _EMPTY_SHA256])
    scope = f"{now[:8]}/{region}/s3/aws4_request"
    digest = hashlib.sha256(request.encode()).hexdigest()
    key = f"AWS4{keys.secret}".encode()
    for word in scope.split("/"):
        key = hmac.digest(key, word.encode(), "sha256")
    text = "\n".join(["AWS4-HMAC-SHA256", now, scope, digest])
    signature = hmac.new(key, text.encode(), "sha256").hexdigest()
    headers["Authorization"] = (
        f"AWS4-HMAC-SHA256 Credential={keys.access}/{scope}, SignedHeaders={names}, Signature={signature}"
    )
    del headers["host"]  # requests sends the same
    return headers
