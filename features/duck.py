"""One way to open DuckDB: in memory, on UTC."""

from __future__ import annotations

from pathlib import Path

import duckdb


def connect(scratch: Path | None = None) -> duckdb.DuckDBPyConnection:
    """Open an in-memory DuckDB whose session speaks UTC.

    Parameters
    ----------
    scratch : Path, optional
        Where it may spill what does not fit in memory.

    Returns
    -------
    duckdb.DuckDBPyConnection
    """
    con = duckdb.connect(config={"temp_directory": str(scratch)} if scratch else {})
    con.execute("SET TimeZone = 'UTC'")
    return con
