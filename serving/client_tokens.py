"""Signed tokens of other systems: who asks CDS Hooks services, proved by the client's own key.

A token is taken from a named issuer alone, for the very address that is
called, and once. Its keys come from a file, so that nothing is fetched while
somebody waits.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import jwt
from sqlalchemy import Engine, delete
from sqlalchemy.exc import IntegrityError

from features.errors import SettingsError
from features.settings import CdsHooks
from serving.auth import SignedIn, clinics_of
from serving.db import writing
from serving.integration_tables import SeenTokenRow

PREFIX = "client:"
PERMISSIONS = frozenset({"patient.view"})
ALGORITHMS = ("ES384", "RS384")  # those that the specification recommends
LONGEST = timedelta(minutes=10)
CLOCK_MAY_DIFFER = 30  # seconds
_CLAIMS = ("iss", "aud", "exp", "iat", "jti")


@dataclass(frozen=True)
class _Client:
    issuer: str
    keys: Mapping[str, Any]  # public keys by `kid`
    clinics: frozenset[str] | None


class ClientTokens:
    """Reads tokens of the clients that the settings name.

    Parameters
    ----------
    settings : CdsHooks
        The chapter ``[cds_hooks]``.

    Raises
    ------
    SettingsError
        If a client's key file cannot be read.
    """

    def __init__(self, settings: CdsHooks) -> None:
        self._base = settings.base_url.rstrip("/")
        self._clients = {c.issuer: _Client(c.issuer, _keys(c.jwks), clinics_of(c.clinics)) for c in settings.clients}

    def read(self, engine: Engine, token: str, path: str, at: datetime) -> SignedIn | None:
        """Return whom a token stands for, or None; a token counts once.

        Parameters
        ----------
        engine : Engine
            Of the upgraded application database, which knows the tokens seen.
        token : str
            As sent.
        path : str
            Of the request.
        at : datetime
            This moment.
        """
        client, claims = self._verified(token, f"{self._base}{path}")
        if client is None or not _is_fresh(claims, at) or not _is_first(engine, claims, at):
            return None
        return SignedIn(
            username=PREFIX + client.issuer,
            display_name=client.issuer,
            role="key",
            csrf_token="",
            clinics=client.clinics,
            permissions=PERMISSIONS,
        )

    def _verified(self, token: str, address: str) -> tuple[_Client | None, Mapping[str, Any]]:
        try:
            kid = jwt.get_unverified_header(token).get("kid")
            issuer = jwt.decode(token, options={"verify_signature": False}).get("iss")
            client = self._clients.get(issuer) if isinstance(issuer, str) else None
            key = client.keys.get(kid) if client and isinstance(kid, str) else None
            if client is None or key is None:
                return None, {}
            claims = jwt.decode(
                token,
                key,
                algorithms=list(ALGORITHMS),
                audience=address,
                issuer=client.issuer,
                leeway=CLOCK_MAY_DIFFER,
                options={"require": list(_CLAIMS), "verify_exp": False, "verify_iat": False},
            )
        except (jwt.PyJWTError, ValueError, TypeError, KeyError, RecursionError):
            return None, {}
        return client, claims


def is_signed(authorization: str) -> bool:
    """Whether a header carries a signed token rather than a key of ours."""
    return authorization.count(".") == 2


def _is_fresh(claims: Mapping[str, Any], at: datetime) -> bool:
    """Whether the token is of now and short-lived; judged by the moment given, as everything here is."""
    moments = (claims["iat"], claims["exp"])
    if not all(isinstance(moment, (int, float)) and 0 < moment < 2**33 for moment in moments):
        return False
    issued, ends, now = *moments, at.timestamp()
    is_now = issued - CLOCK_MAY_DIFFER <= now <= ends + CLOCK_MAY_DIFFER
    return bool(is_now and ends - issued <= LONGEST.total_seconds())


def _is_first(engine: Engine, claims: Mapping[str, Any], at: datetime) -> bool:
    if not isinstance(claims["jti"], str) or not claims["jti"]:
        return False
    name = json.dumps([claims["iss"], claims["jti"]]).encode()
    ends = datetime.fromtimestamp(claims["exp"] + CLOCK_MAY_DIFFER, tz=UTC)
    try:
        with writing(engine) as session:
            session.execute(delete(SeenTokenRow).where(SeenTokenRow.expires_at < at))
            session.add(SeenTokenRow(token_hash=hashlib.sha256(name).hexdigest(), expires_at=ends))
    except IntegrityError:
        return False
    return True


def _keys(path: str) -> dict[str, Any]:
    try:
        listed: Sequence[Mapping[str, Any]] = json.loads(Path(path).expanduser().read_text(encoding="utf-8"))["keys"]
        found = {str(key["kid"]): jwt.PyJWK.from_dict(dict(key)).key for key in listed}
    except (OSError, ValueError, KeyError, TypeError, jwt.PyJWTError) as error:
        raise SettingsError(
            f"[cds_hooks] clients: {path} is no set of public keys ({type(error).__name__}); "
            "expected a JWK Set, a JSON object with `keys`, each with a `kid`."
        ) from None
    if any(hasattr(key, "private_numbers") or hasattr(key, "sign") for key in found.values()):
        raise SettingsError(f"[cds_hooks] clients: {path} holds a private key; give the client's public keys alone.")
    return found
