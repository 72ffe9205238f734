"""Rate limits: how often one address may knock, and one person or program may ask."""

from __future__ import annotations

import time

from limits import RateLimitItemPerMinute
from limits.storage import MemoryStorage
from limits.strategies import FixedWindowRateLimiter

SIGN_INS_PER_MINUTE = 30  # per address; behind a proxy a whole practice is one address
REFUSED_KEYS_PER_MINUTE = 30  # per address
PURGED_EVERY = 60.0  # seconds


class _Counts(MemoryStorage):
    """Counts in memory, outdated ones purged once a minute.

    The library starts a timer thread for that at a hit, which costs more CPU
    (.45 ms) than most answers.
    """

    _purged_at = 0.0

    def incr(self, key: str, expiry: float, amount: int = 1) -> int:
        """Count a hit."""
        at = time.time()
        if at - self._purged_at > PURGED_EVERY:
            self._purged_at = at
            for old in [name for name, ends_at in self.expirations.items() if ends_at <= at]:
                self.clear(old)
        count = self.get(key) + amount
        if count == amount:
            self.expirations[key] = at + expiry
        self.storage[key] = count
        return count


class Rates:
    """Limits of one worker, kept in its memory.

    Parameters
    ----------
    requests_per_minute : int
        For each person or program, and for each address that is neither.
    """

    def __init__(self, requests_per_minute: int) -> None:
        self._limiter = FixedWindowRateLimiter(_Counts())
        self._requests = RateLimitItemPerMinute(requests_per_minute, namespace="requests")
        self._sign_ins = RateLimitItemPerMinute(SIGN_INS_PER_MINUTE, namespace="sign_ins")
        self._keys = RateLimitItemPerMinute(REFUSED_KEYS_PER_MINUTE, namespace="keys")

    def may_ask(self, who: str) -> bool:
        """Count a request of a person, a program or an address."""
        return self._limiter.hit(self._requests, who)

    def may_sign_in(self, address: str) -> bool:
        """Count an attempt to sign in."""
        return self._limiter.hit(self._sign_ins, address)

    def may_show_key(self, address: str) -> bool:
        """Whether an address has not shown too many keys that are none."""
        return self._limiter.test(self._keys, address)

    def note_refused_key(self, address: str) -> None:
        """Count a key that is none."""
        self._limiter.hit(self._keys, address)
