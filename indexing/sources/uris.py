"""Public forms of URIs: without credentials, signatures and what belongs to them."""

import re
from collections.abc import Callable
from pathlib import PurePosixPath
from typing import NamedTuple
from urllib.parse import unquote_plus, urlsplit, urlunsplit

# Whatever else the query has: these are no file's name.
_SECRET_NAME = re.compile(
    r"signature|token|secret|passw|credential|authoriz|hmac|jwt|bearer|accessid"
    r"|(access|api|subscription|pair)[-_.]?key|key[-_.]?pair"
    r"|(^|[-_.])(sig|sign|pass|passphrase|pwd|cred|creds|auth|ticket|session|sessionid)$"
    r"|^x-(amz|goog|oss|cos|obs)-|^hdn(ea|ts)|^q-|^sk(oid|tid|t|e|s|v)$",
    re.IGNORECASE,
)
# Parts of a signature where the query is signed; by themselves anything.
_SIGNED_NAME = re.compile(
    r"^(e|exp|expir\w*|until|ttl|validto|md5|hash|h|s|st|se|sp|sv|sr|spr|ss|srt|verify|policy)$",
    re.IGNORECASE,
)
_EXPIRY_NAME = re.compile(r"^(e|exp|expir\w*|until|ttl|validto)$", re.IGNORECASE)
_UNIX_TIME = re.compile(r"\d{9,}")
_KEY_NAME = re.compile(r"^(key|code)$", re.IGNORECASE)
_KEY_VALUE = re.compile(r"[\w+/=-]{16,}")  # no dot: `key=dives/a.mp4` names a file


class _Parameter(NamedTuple):
    text: str
    name: str
    value: str


def public_query(query: str) -> str:
    """The query without what is, or belongs to, a credential or a signature."""
    parameters = _parameters(query)
    is_signed = any(_is_secret(one) for one in parameters)
    return _joined(
        query,
        parameters,
        [one for one in parameters if not (_is_secret(one) or (is_signed and _SIGNED_NAME.match(one.name)))],
    )  # fmt: skip


def naming_query(query: str) -> str:
    """The query without what is beyond doubt none of the file's name: two that differ here may name two files."""
    parameters = _parameters(query)
    return _joined(query, parameters, [one for one in parameters if not _is_secret(one)])


def _parameters(query: str) -> list[_Parameter]:
    found = []
    for text in re.split("[&;]", query):
        name, _, value = text.partition("=")
        found.append(_Parameter(text, unquote_plus(name), unquote_plus(value)))
    return found


def _is_secret(one: _Parameter) -> bool:
    return bool(
        _SECRET_NAME.search(one.name)
        or (_EXPIRY_NAME.match(one.name) and _UNIX_TIME.fullmatch(one.value))
        or (_KEY_NAME.match(one.name) and _KEY_VALUE.fullmatch(one.value))
    )


def _joined(query: str, parameters: list[_Parameter], kept: list[_Parameter]) -> str:
    return query if len(kept) == len(parameters) else "&".join(one.text for one in kept)


OBJECT_SCHEMES = ("s3", "gs", "gcs", "abfs", "abfss")
HTTP_SCHEMES = ("http", "https")


# To the next space: quotes and brackets may stand in a URI, and at its end they belong to the text around it.
_URI_IN_TEXT = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://\S*[^\s'\"<>),.;:]")
_QUERY_IN_TEXT = re.compile(r"\?(\S*=(?:\S*[^\s'\"<>),.;:])?)")


def is_remote(uri: str) -> bool:
    """Whether a URI has to be fetched before it can be decoded."""
    scheme, separator, _ = uri.partition("://")
    return bool(separator) and scheme.lower() != "file"


def public_uri(uri: str) -> str:
    """Without user info, fragment, and what of the query is a signature or secret; the rest of it may name the file."""
    return _without(uri, public_query)


def naming_uri(uri: str) -> str:
    """As `public_uri`, with parameters that belong to a signature in some places and name the file in others."""
    return _without(uri, naming_query)


def _without(uri: str, shortened: Callable[[str], str]) -> str:
    if not is_remote(uri):
        return uri
    parts = urlsplit(uri)
    netloc = parts.netloc.rpartition("@")[2]
    return urlunsplit((parts.scheme, netloc, parts.path, shortened(parts.query), ""))


def without_secrets(text: str) -> str:
    """An error text with every URI in it made public, also where it names only the path and query of one."""
    text = _URI_IN_TEXT.sub(lambda found: public_uri(found.group()), text)
    return _QUERY_IN_TEXT.sub(
        lambda found: f"?{kept}" if (kept := public_query(found.group(1))) else "", text
    )


def name_of(uri: str) -> PurePosixPath:
    """The path of a URI, for its suffix and its name."""
    return PurePosixPath(urlsplit(uri).path)
