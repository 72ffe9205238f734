"""What is on the shelves and what a visit uses, as known at a moment."""

from __future__ import annotations

from datetime import datetime

import pandas as pd

from features.as_of import attach_states, known
from features.duck import connect
from features.records.store import RecordStore
from features.settings import Settings


def read_supplies(settings: Settings, now: datetime) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Read stock and use.

    Returns
    -------
    tuple of pandas.DataFrame
        Stock: one row per supply (supply, clinic, supply_name, unit, stock_quantity, reorder_quantity, counted_at).
        Use: one row per supply and service_line (quantity a visit uses). Both empty where nothing is recorded.
    """
    moment = f"TIMESTAMPTZ '{now.isoformat()}'"
    with connect() as con:
        RecordStore(settings.paths.records).attach(con, ("supplies", "supply_use"))
        for table in ("supplies", "supply_use"):
            attach_states(con, table)
        stock: pd.DataFrame = con.sql(
            f"""SELECT supply_id AS supply, clinic_id AS clinic, supply_name, unit, stock_quantity, reorder_quantity,
            counted_at FROM supplies_states s WHERE {known("s", moment)} ORDER BY ALL"""
        ).df()
        use: pd.DataFrame = con.sql(
            f"""SELECT supply_id AS supply, service_line, quantity
            FROM supply_use_states s WHERE {known("s", moment)} ORDER BY ALL"""
        ).df()
    return stock, use
