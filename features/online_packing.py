"""How features become one packed row, and under which name it lies."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa

Row: TypeAlias = tuple[str, int, bytes]  # id, moment (microseconds since 1970, UTC), packed doubles


def slot_of(view: str, names: Iterable[str]) -> str:
    """Name under which rows of a view lie: with other features, it is another one."""
    return f"{view}_{sha256(','.join(sorted(names)).encode()).hexdigest()[:10]}"


def microseconds(moment: datetime) -> int:
    """Microseconds since 1970, UTC; a moment without a zone is UTC, as Feast has it."""
    aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    since = aware - datetime(1970, 1, 1, tzinfo=UTC)
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds


def pack(ids: Sequence[str], moments_us: np.ndarray[Any, Any], values: np.ndarray[Any, Any]) -> Iterator[Row]:
    """Make rows of a matrix.

    Parameters
    ----------
    ids : sequence of str
        One per row.
    moments_us : numpy.ndarray of int64, shape (rows,)
        Microseconds since 1970, UTC.
    values : numpy.ndarray of float64, shape (rows, features)
        Features in the alphabetic order of their names; NaN where there is none.

    Yields
    ------
    Row
    """
    width = 8 * values.shape[1]
    whole = np.ascontiguousarray(values, dtype="<f8").tobytes()
    for n, (key, moment) in enumerate(zip(ids, moments_us.tolist(), strict=True)):
        yield key, moment, whole[n * width : (n + 1) * width]


def matrix(batch: pa.RecordBatch, names: Sequence[str]) -> np.ndarray[Any, Any]:
    """Columns of an Arrow batch as doubles, shape (rows, names); NaN for null."""
    columns = [batch.column(name).to_numpy(zero_copy_only=False) for name in names]
    values = np.empty((batch.num_rows, len(names)), dtype=np.float64)
    for place, column in enumerate(columns):
        values[:, place] = column
    return values
