"""Accounts and sessions: argon2id passwords, opaque tokens stored hashed, lock-out per account."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from sqlalchemy import Engine, delete, select

from features.errors import RevisitError
from serving.clock import now
from serving.db import ROLES, SessionRow, SignInFailureRow, UserRow, reading, writing

SESSION_LASTS = timedelta(hours=8)
LOCK_AFTER = 5
LOCK_LASTS = timedelta(minutes=5)
MIN_PASSWORD = 10
MAX_PASSWORD = 256
MAX_USERNAME = 64


class AccountError(RevisitError):
    """An account cannot be made as asked."""


class SignInRefusedError(RevisitError):
    """The user name or the password is wrong; which one is not said."""

    http_status = 401


class SignInLockedError(RevisitError):
    """Too many failed attempts on this user name; it opens again by itself."""

    http_status = 429


@dataclass(frozen=True)
class SignedIn:
    """Who is signed in, and the token their forms must carry."""

    username: str
    display_name: str
    role: str
    csrf_token: str


@cache
def _hasher() -> PasswordHasher:
    return PasswordHasher()


@cache
def _decoy() -> str:
    return _hasher().hash(secrets.token_urlsafe(16))


def prepare() -> None:
    """Make the decoy now, so that the first unknown name takes no longer than others."""
    _decoy()


def _hashed(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def create_user(engine: Engine, username: str, password: str, role: str, display_name: str) -> None:
    """Create an account.

    Parameters
    ----------
    engine : Engine
        Of the upgraded application database.
    username : str
        At most 64 characters; letters' case does not matter.
    password : str
        10 to 256 characters.
    role : str
        ``front_desk``, ``marketing``, ``manager`` or ``admin``.
    display_name : str
        Shown on the page.

    Raises
    ------
    AccountError
        If the name is taken or something is out of bounds.
    """
    name = _normal(username)
    if not name or len(name) > MAX_USERNAME or not name.isprintable():
        raise AccountError(f"A user name has 1 to {MAX_USERNAME} printable characters.")
    if not MIN_PASSWORD <= len(password) <= MAX_PASSWORD:
        raise AccountError(f"A password has {MIN_PASSWORD} to {MAX_PASSWORD} characters; a sentence does well.")
    if role not in ROLES:
        raise AccountError(f"The role {role!r} is not known; expected one of {', '.join(ROLES)}.")
    row = UserRow(
        username=name,
        password_hash=_hasher().hash(password),
        role=role,
        display_name=display_name,
        created_at=now(),
    )
    with writing(engine) as session:
        if session.get(UserRow, name) is not None:
            raise AccountError(f"The user name {name!r} is taken; choose another.")
        session.add(row)


def sign_in(engine: Engine, username: str, password: str, at: datetime) -> str:
    """Check a password and open a session.

    Takes about a fifth of a second of CPU: call it off the event loop.

    Parameters
    ----------
    engine : Engine
        Of the application database.
    username, password : str
        As typed.
    at : datetime
        This moment.

    Returns
    -------
    str
        A new token, for the cookie; only its hash is kept.

    Raises
    ------
    SignInLockedError
        After `LOCK_AFTER` failures, for `LOCK_LASTS`.
    SignInRefusedError
        If the name or the password is wrong or the account is disabled.
    """
    name = _normal(username)[:MAX_USERNAME]
    _count_attempt(engine, name, at)
    with reading(engine) as session:
        user = session.get(UserRow, name)
    is_right = _verify(user.password_hash if user else _decoy(), password[:MAX_PASSWORD])
    if user is None or user.is_disabled or not is_right:
        raise SignInRefusedError("The user name or the password is wrong.")
    return _open_session(engine, name, at)


def _normal(username: str) -> str:
    return username.strip().casefold()


def _verify(password_hash: str, password: str) -> bool:
    try:
        return _hasher().verify(password_hash, password)
    except (VerificationError, InvalidHashError):
        return False


def _count_attempt(engine: Engine, name: str, at: datetime) -> None:
    # Counted before the password is looked at, so that attempts sent all at once
    # cannot slip through; a success wipes the count.
    with writing(engine) as session:
        row = session.get(SignInFailureRow, name, with_for_update=True)
        if row is None:
            stale = SignInFailureRow.last_at < at - timedelta(days=1)
            session.execute(delete(SignInFailureRow).where(stale))
            row = SignInFailureRow(username=name, failures=0, last_at=at, locked_until=None)
            session.add(row)
        if row.locked_until is not None:
            if at < row.locked_until:
                raise SignInLockedError("Too many failed attempts. Wait five minutes, then try again.")
            row.failures, row.locked_until = 0, None
        row.failures += 1
        row.last_at = at
        if row.failures >= LOCK_AFTER:
            row.locked_until = at + LOCK_LASTS


def _open_session(engine: Engine, name: str, at: datetime) -> str:
    token = secrets.token_urlsafe(32)
    with writing(engine) as session:
        session.execute(delete(SignInFailureRow).where(SignInFailureRow.username == name))
        session.execute(delete(SessionRow).where(SessionRow.expires_at < at))
        session.add(
            SessionRow(
                token_hash=_hashed(token),
                username=name,
                csrf_token=secrets.token_urlsafe(32),
                created_at=at,
                expires_at=at + SESSION_LASTS,
            )
        )
    return token


def find_session(engine: Engine, token: str | None, at: datetime) -> SignedIn | None:
    """Return who holds this token, or None if it is unknown, expired or revoked."""
    if not token:
        return None
    query = (
        select(UserRow.username, UserRow.display_name, UserRow.role, SessionRow.csrf_token)
        .join(SessionRow, SessionRow.username == UserRow.username)
        .where(
            SessionRow.token_hash == _hashed(token),
            SessionRow.expires_at > at,
            UserRow.is_disabled.is_(False),
        )
    )
    with reading(engine) as session:
        row = session.execute(query).one_or_none()
    return SignedIn(*row) if row else None


def sign_out(engine: Engine, token: str | None) -> None:
    """End a session; its token is worth nothing afterwards."""
    if token:
        with writing(engine) as session:
            session.execute(delete(SessionRow).where(SessionRow.token_hash == _hashed(token)))


def is_same_token(one: str | None, other: str | None) -> bool:
    """Compare two tokens without telling by time where they differ."""
    return bool(one) and bool(other) and hmac.compare_digest(str(one).encode(), str(other).encode())
