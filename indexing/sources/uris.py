"""Public forms of URIs: without credentials, signatures and what belongs to them."""

import re
from collections.abc import Callable
from pathlib import PurePosixPath
from typing import NamedTuple
from urllib.parse import unquote_plus, urlsplit, urlunsplit

# Parameters that name a file, in any case and with any of "-_." between their words. No other parameter of a query is stored or
# shown: a list of secrets is never complete.
NAMING_PARAMETERS = (
    *("asset", "assetid", "clip", "clipid", "file", "fileid", "filename", "generation", "id"),
    *("media", "mediaid", "name", "object", "objectid", "part", "path", "v", "version"),
    *("versionid", "video", "videoid"),
)
# A value with one of these may be a URI with a query of its own, or user info.
_NESTED = re.compile(r"://|[?&;@#]")
# Parameters of signatures and credentials. They only tell whether two URIs that are stored as one may be one file.
_SIGNATURE_NAME = re.compile(
    r"signature|token|secret|passw|credential|authoriz|hmac|jwt|bearer|accessid"
    r"|(access|api|subscription|pair)[-_.]?key|key[-_.]?pair"
    r"|(^|[-_.])(sig|sign|pass|passphrase|pwd|cred|creds|auth|ticket|session|sessionid)$"
    r"|^x-(amz|goog|oss|cos|obs)-|^hdn(ea|ts)|^q-|^sk(oid|tid|t|e|s|v)$",
    re.IGNORECASE,
)
_EXPIRY_NAME = re.compile(r"^(e|exp|expir\w*|until|ttl|validto)$", re.IGNORECASE)
_UNIX_TIME = re.compile(r"\d{9,}")


class _Parameter(NamedTuple):
    text: str
    name: str
    value: str


def public_query(query: str) -> str:
    """The parameters that name a file, in their order; everything else is left out."""
    return "&".join(parameter.text for parameter in _parameters(query) if _names_file(parameter))


def _parameters(query: str) -> list[_Parameter]:
    parameters = []
    for text in re.split("[&;]", query):
        name, _, value = text.partition("=")
        parameters.append(_Parameter(text, unquote_plus(name), _unquoted(value)))
    return parameters


def _unquoted(value: str) -> str:
    """Decoded until nothing changes: a value may be a URI that was quoted twice."""
    while (decoded := unquote_plus(value)) != value:
        value = decoded
    return value


def _names_file(parameter: _Parameter) -> bool:
    name = re.sub("[-_.]", "", parameter.name).lower()
    return name in NAMING_PARAMETERS and not _NESTED.search(parameter.value)


def _is_signature(parameter: _Parameter) -> bool:
    is_expiry = _EXPIRY_NAME.match(parameter.name) and _UNIX_TIME.fullmatch(parameter.value)
    return bool(_SIGNATURE_NAME.search(parameter.name) or is_expiry)


OBJECT_SCHEMES = ("s3", "gs", "gcs", "abfs", "abfss")
HTTP_SCHEMES = ("http", "https")


# To the next space: quotes and brackets may stand in a URI, and at its end they belong to the text around it.
_URI_IN_TEXT = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://\S*[^\s'\"<>),.;:]")
_QUERY_IN_TEXT = re.compile(r"\?(\S*=(?:\S*[^\s'\"<>),.;:])?)")


# Nothing to leave out, and nothing that a URI is rid of when it is taken apart: of millions, nearly all.
_BARE = re.compile(r"[a-z][a-z0-9+.-]*://[!$-.0-9:;=A-Z_a-z~]+(/[!-\"$->A-Z^-~\\]*)?")


def is_remote(uri: str) -> bool:
    """Whether a URI has to be fetched before it can be decoded."""
    scheme, separator, _ = uri.partition("://")
    return bool(separator) and scheme.lower() != "file"


def public_uri(uri: str) -> str:
    """Without user info and fragment, and with those parameters of the query alone that name a file (NAMING_PARAMETERS)."""
    return _without(uri, public_query)


def unsigned_uri(uri: str) -> str:
    """Without user info, fragment, and parameters of signatures: two URIs that differ here may be two files. Never stored or shown."""
    return _without(
        uri,
        lambda query: "&".join(
            parameter.text for parameter in _parameters(query) if not _is_signature(parameter)
        ),
    )


def _without(uri: str, shortened: Callable[[str], str]) -> str:
    if not is_remote(uri) or _BARE.fullmatch(uri):
        return uri
    parts = urlsplit(uri)
    netloc = parts.netloc.rpartition("@")[2]
    return urlunsplit((parts.scheme, netloc, parts.path, shortened(parts.query), ""))


def without_secrets(text: str) -> str:
    """An error text with every URI in it made public, also where it names only the path and query of one."""
    text = _URI_IN_TEXT.sub(lambda match: public_uri(match.group()), text)
    return _QUERY_IN_TEXT.sub(
        lambda match: f"?{kept}" if (kept := public_query(match.group(1))) else "", text
    )


def name_of(uri: str) -> PurePosixPath:
    """The path of a URI, for its suffix and its name."""
    return PurePosixPath(urlsplit(uri).path)
