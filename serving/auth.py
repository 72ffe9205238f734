"""Accounts and sessions: argon2id passwords, opaque tokens stored hashed, lock-out per account."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from sqlalchemy import Engine, delete, select, update

from features.errors import RevisitError
from serving.clock import now
from serving.db import ROLES, SessionRow, SignInFailureRow, UserRow, reading, writing
from serving.permissions import permissions_of

SESSION_LASTS = timedelta(hours=8)
IDLE_LASTS = timedelta(hours=1)
NOTED_EVERY = timedelta(minutes=1)  # being there is not worth a write per request
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
    """Who is asking: a person who signed in, or a program with a key.

    Attributes
    ----------
    username : str
        For the audit log; ``key:...`` for a program.
    display_name : str
        Shown on the page.
    role : str
        One of `serving.db.ROLES`, or ``key``.
    csrf_token : str
        Their forms must carry it; empty for a program, which has no cookies.
    clinics : frozenset of str or None
        Those that they may see; None is all.
    permissions : frozenset of str
        Names of `serving.permissions.GRANTS`.
    last_seen_at : datetime or None
        When their session was last used, up to `NOTED_EVERY` ago.
    """

    username: str
    display_name: str
    role: str
    csrf_token: str
    clinics: frozenset[str] | None = None
    permissions: frozenset[str] = frozenset()
    last_seen_at: datetime | None = None

    def may(self, permission: str) -> bool:
        """Whether they hold a permission."""
        return permission in self.permissions

    def sees(self, clinic_id: str) -> bool:
        """Whether a clinic is one of theirs."""
        return self.clinics is None or clinic_id in self.clinics


@cache
def _hasher() -> PasswordHasher:
    return PasswordHasher()


@cache
def _decoy() -> str:
    return _hasher().hash(secrets.token_urlsafe(16))


def prepare() -> None:
    """Make the decoy now, so that the first unknown name takes no longer than others."""
    _decoy()


def hashed(token: str) -> str:
    """Return what is stored instead of a token; long random tokens need no slow hash."""
    return hashlib.sha256(token.encode("utf-8", "replace")).hexdigest()


def clinics_of(stored: Collection[str] | None) -> frozenset[str] | None:
    """Return stored clinics as `SignedIn` holds them."""
    return None if stored is None else frozenset(stored)


def create_user(
    engine: Engine,
    username: str,
    password: str,
    role: str,
    display_name: str,
    *,
    clinics: Collection[str] | None = None,
    is_demo: bool = False,
) -> None:
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
    clinics : collection of str, optional
        Those whose patients they may see; all by default.
    is_demo : bool
        Whether the password is on the sign-in page: such an account works in demo mode alone.

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
        clinics=None if clinics is None else sorted(clinics),
        is_demo=is_demo,
    )
    with writing(engine) as session:
        if session.get(UserRow, name) is not None:
            raise AccountError(f"The user name {name!r} is taken; choose another.")
        session.add(row)


def sign_in(engine: Engine, username: str, password: str, at: datetime, *, is_demo: bool = False) -> str:
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
    is_demo : bool
        Whether the service runs in demo mode, in which demo accounts work.

    Returns
    -------
    str
        A new token, for the cookie; only its hash is kept.

    Raises
    ------
    SignInLockedError
        After `LOCK_AFTER` failures, for `LOCK_LASTS`.
    SignInRefusedError
        If the name or the password is wrong, or the account is disabled or of the demo.
    """
    name = _normal(username)[:MAX_USERNAME]
    name = name if name.isprintable() else ""  # no account has such a name, and PostgreSQL takes no NUL
    _count_attempt(engine, name, at)
    with reading(engine) as session:
        user = session.get(UserRow, name)
    is_right = _verify(user.password_hash if user else _decoy(), password[:MAX_PASSWORD])
    if user is None or user.is_disabled or not is_right or (user.is_demo and not is_demo):
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
        is_over = (SessionRow.expires_at < at) | (SessionRow.last_seen_at < at - IDLE_LASTS)
        session.execute(delete(SessionRow).where(is_over))
        session.add(
            SessionRow(
                token_hash=hashed(token),
                username=name,
                csrf_token=secrets.token_urlsafe(32),
                created_at=at,
                expires_at=at + SESSION_LASTS,
                last_seen_at=at,
            )
        )
    return token


def find_session(engine: Engine, token: str | None, at: datetime, *, is_demo: bool = False) -> SignedIn | None:
    """Return who holds this token, or None if it is unknown, idle, expired or revoked."""
    if not token:
        return None
    query = (
        select(UserRow, SessionRow)
        .join(SessionRow, SessionRow.username == UserRow.username)
        .where(
            SessionRow.token_hash == hashed(token),
            SessionRow.expires_at > at,
            SessionRow.last_seen_at > at - IDLE_LASTS,
            UserRow.is_disabled.is_(False),
        )
    )
    with reading(engine) as session:
        found = session.execute(query).one_or_none()
    if found is None or (found[0].is_demo and not is_demo):
        return None
    user, held = found
    return SignedIn(
        username=user.username,
        display_name=user.display_name,
        role=user.role,
        csrf_token=held.csrf_token,
        clinics=clinics_of(user.clinics),
        permissions=permissions_of(user.role),
        last_seen_at=held.last_seen_at,
    )


def note_presence(engine: Engine, token: str, at: datetime) -> None:
    """Keep a session from idling out."""
    with writing(engine) as session:
        session.execute(update(SessionRow).where(SessionRow.token_hash == hashed(token)).values(last_seen_at=at))


def sign_out(engine: Engine, token: str | None) -> None:
    """End a session; its token is worth nothing afterwards."""
    if token:
        with writing(engine) as session:
            session.execute(delete(SessionRow).where(SessionRow.token_hash == hashed(token)))


def is_same_token(one: str | None, other: str | None) -> bool:
    """Compare two tokens without telling by time where they differ."""
    return bool(one) and bool(other) and hmac.compare_digest(str(one).encode(), str(other).encode())
