"""API keys: shown once, stored hashed, limited to scopes and clinics."""

from __future__ import annotations

import secrets
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Engine, Row, bindparam, select

from serving.auth import AccountError, SignedIn, clinics_of, hashed, is_same_token
from serving.db import ApiKeyRow, reading, writing
from serving.permissions import SCOPES

PREFIX = "key:"
FOREIGN = "x"  # begins the number of a key that another program brought; ours are hexadecimal
MIN_FOREIGN = 16


@dataclass(frozen=True)
class ApiKey:
    """One key as it is listed; the secret is not known any more."""

    key_id: str
    name: str
    scopes: tuple[str, ...]
    clinics: tuple[str, ...] | None
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None


def create_key(
    engine: Engine,
    name: str,
    scopes: Collection[str],
    at: datetime,
    clinics: Collection[str] | None = None,
    expires_at: datetime | None = None,
    foreign: str | None = None,
) -> str:
    """Make a key for another program.

    Parameters
    ----------
    engine : Engine
        Of the upgraded application database.
    name : str
        What the key is for, 1 to 64 characters.
    scopes : collection of str
        Permissions out of `serving.permissions.SCOPES`.
    at : datetime
        This moment.
    clinics : collection of str, optional
        Those it may read; all by default.
    expires_at : datetime, optional
        From when on it is worth nothing.
    foreign : str, optional
        A key that the other program has and sends as it is (Open Dental's customer key).

    Returns
    -------
    str
        ``kid.secret``, never to be had again; of a foreign key its number alone.

    Raises
    ------
    AccountError
        If the name or a scope is out of bounds.
    """
    _must_be_in_bounds(name, scopes, foreign)
    key_id, secret = ("" if foreign is None else FOREIGN) + secrets.token_hex(6), foreign or secrets.token_urlsafe(32)
    row = ApiKeyRow(
        key_id=key_id,
        secret_hash=hashed(secret),
        name=name,
        scopes=sorted(scopes),
        clinics=None if clinics is None else sorted(clinics),
        created_at=at,
        expires_at=expires_at,
        revoked_at=None,
    )
    with writing(engine) as session:
        session.add(row)
    return key_id if foreign is not None else f"{key_id}.{secret}"


def _must_be_in_bounds(name: str, scopes: Collection[str], foreign: str | None) -> None:
    wrong = sorted(set(scopes) - set(SCOPES))
    if wrong or not scopes:
        raise AccountError(f"A key needs scopes out of {', '.join(SCOPES)}; got {', '.join(wrong) or 'none'}.")
    if not 1 <= len(name) <= 64 or not name.isprintable():
        raise AccountError("A key's name has 1 to 64 printable characters.")
    if foreign is not None and not _may_be_foreign(foreign):
        raise AccountError(f"Another program's key has {MIN_FOREIGN} to 200 letters and digits.")


def list_keys(engine: Engine) -> list[ApiKey]:
    """Return all keys, the oldest first, revoked ones too."""
    with reading(engine) as session:
        rows = session.scalars(select(ApiKeyRow).order_by(ApiKeyRow.created_at, ApiKeyRow.key_id)).all()
        return [
            ApiKey(
                row.key_id,
                row.name,
                tuple(row.scopes),
                None if row.clinics is None else tuple(row.clinics),
                row.created_at,
                row.expires_at,
                row.revoked_at,
            )
            for row in rows
        ]


def revoke_key(engine: Engine, key_id: str, at: datetime) -> None:
    """End a key; ending it again changes nothing.

    Raises
    ------
    AccountError
        If there is no such key.
    """
    with writing(engine) as session:
        row = session.get(ApiKeyRow, key_id)
        if row is None:
            raise AccountError(f"There is no key {key_id!r}; `revisit key list` names them.")
        row.revoked_at = row.revoked_at or at


def find_key(engine: Engine, authorization: str, at: datetime) -> SignedIn | None:
    """Return whom an ``Authorization`` header stands for, or None.

    It is ``Bearer kid.secret``, or the bare key of another program.
    """
    row = _of_ours(engine, authorization) if " " in authorization.strip() else _of_others(engine, authorization)
    if row is None or row.revoked_at or (row.expires_at and row.expires_at <= at):
        return None
    return SignedIn(
        username=PREFIX + row.key_id,
        display_name=row.name,
        role="key",
        csrf_token="",
        clinics=clinics_of(row.clinics),
        permissions=frozenset(row.scopes) & frozenset(SCOPES),
    )


_BY_NUMBER = select(ApiKeyRow.__table__).where(ApiKeyRow.key_id == bindparam("key_id"))


def _of_ours(engine: Engine, authorization: str) -> Row[Any] | None:
    kind, _, key = authorization.partition(" ")
    key_id, _, secret = key.strip().partition(".")
    if kind.lower() != "bearer" or not key_id.isalnum() or not key_id.isascii():
        return None
    with engine.connect() as connection:  # asked at every request: without the mapper, which takes far longer
        row = connection.execute(_BY_NUMBER, {"key_id": key_id}).first()
    is_right = is_same_token(hashed(secret), row.secret_hash if row else hashed(""))
    return row if is_right and not key_id.startswith(FOREIGN) else None


def _may_be_foreign(key: str) -> bool:
    return MIN_FOREIGN <= len(key) <= 200 and key.isascii() and key.isalnum()


def _of_others(engine: Engine, authorization: str) -> Row[Any] | None:
    key = authorization.strip()
    if not _may_be_foreign(key):
        return None
    table = ApiKeyRow.__table__
    found = select(table).where(table.c.secret_hash == hashed(key), table.c.key_id.startswith(FOREIGN))
    with engine.connect() as connection:
        return connection.execute(found.order_by(table.c.revoked_at.is_not(None)).limit(1)).first()
