"""Secrets in a URI: a password before the host, or in what follows a question mark."""

from __future__ import annotations

import re

_SECRETS = (
    re.compile(r"^(https?://[^/?#@:]*:)[^/?#]*(@)"),
    # Drivers of databases take a password with any sign in it: up to the last `@`.
    re.compile(r"^((?!https?:)[^:/]+://[^/?#@:]*:)[^?]*(@)"),
    re.compile(r"([?&;](?:password|passwd|pwd|token|sslpassword)=)[^&;#]+()", re.IGNORECASE),
    re.compile(r"([?&;]odbc_connect=)(?=[^&]*pwd)[^&#]+()", re.IGNORECASE),
)


def shown_uri(uri: str) -> str:
    """Return a URI without its secrets."""
    for secret in _SECRETS:
        uri = secret.sub(r"\1***\2", uri)
    return uri


def has_secret(uri: str) -> bool:
    """Whether a URI holds a secret."""
    return shown_uri(uri) != uri
