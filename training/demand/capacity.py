"""What a forecast asks of chairs, hands and shelves."""

from __future__ import annotations

import numpy as np
import pandas as pd

from training.demand.panel import Floats

USE_OF_CHAIRS = 0.85  # share of chair hours that can be booked: the rest is turning over and gaps (assumed)
HORIZON_ORDER = 1.0  # months until an order arrives (assumed)
ENOUGH = 0.9  # probability with which stock should last


def chair_load(paths: Floats, available: Floats, usable: float = USE_OF_CHAIRS) -> pd.DataFrame:
    """Chair hours needed against those available.

    Parameters
    ----------
    paths : ndarray of shape (n_paths, horizon)
        Chair hours needed in each future.
    available : ndarray of shape (horizon,)
        Chair hours planned; NaN where not known.
    usable : float
        Share of them that can be filled.

    Returns
    -------
    pandas.DataFrame
        One row per month: needed (mean), needed_q90, available, usable, overload (probability that more is needed
        than usable; NaN without capacity), add_hours (chair hours to add so that nine futures in ten fit; negative:
        hours that could be saved).
    """
    high = np.quantile(paths, ENOUGH, axis=0)
    limit = usable * available
    overload = np.where(np.isfinite(limit), (paths > limit).mean(axis=0), np.nan)
    return pd.DataFrame(
        {
            "needed": paths.mean(axis=0),
            "needed_q90": high,
            "available": available,
            "usable": limit,
            "overload": overload,
            "add_hours": (high - limit) / usable,
        }
    )


def supplies_needed(paths: Floats, lines: list[str], use: pd.DataFrame) -> dict[str, Floats]:
    """Consumption of every supply in every future.

    Parameters
    ----------
    paths : ndarray of shape (n_paths, n_lines, horizon)
        Visits of one clinic by service line.
    lines : list of str
        Their names.
    use : pandas.DataFrame
        One row per supply and service_line: quantity a visit uses.

    Returns
    -------
    dict of str to ndarray of shape (n_paths, horizon)
        Units, by supply.
    """
    table = use.pivot_table(index="supply", columns="service_line", values="quantity", aggfunc="sum", fill_value=0.0)
    table = table.reindex(columns=lines, fill_value=0.0)
    return {str(name): np.einsum("l,plh->ph", row.to_numpy(dtype=float), paths) for name, row in table.iterrows()}


def stock_outlook(
    needed: Floats, in_stock: float, reorder_at: float | None = None, months_to_deliver: float = HORIZON_ORDER
) -> dict[str, float | int | str]:
    """How long stock lasts, and whether to order.

    Parameters
    ----------
    needed : ndarray of shape (n_paths, horizon)
        Units used by month in each future; the first month is the one that begins with `in_stock`.
    in_stock : float
        Units.
    reorder_at : float, optional
        The practice's own reorder point.
    months_to_deliver : float
        From order to shelf.

    Returns
    -------
    dict
        needed_month (mean of the first), reorder_point (what nine futures in ten use until an order arrives),
        months_left (until one future in ten has run out; the horizon if none has), order (units up to three
        months' need in nine futures of ten), alert ("order now", "order soon" or "").
    """
    total = np.cumsum(needed, axis=1)
    horizon = needed.shape[1]
    high = np.quantile(total, ENOUGH, axis=0)
    point = float(np.interp(months_to_deliver, np.arange(horizon + 1), [0.0, *high]))
    runs_out = (total > in_stock).mean(axis=0) >= 1 - ENOUGH
    left = int(runs_out.argmax()) if runs_out.any() else horizon
    limit = max(point, reorder_at or 0.0)
    soon = float(np.interp(2 * months_to_deliver, np.arange(horizon + 1), [0.0, *high]))
    alert = "order now" if in_stock <= limit else "order soon" if in_stock <= soon else ""
    return {
        "needed_month": float(needed[:, 0].mean()),
        "in_stock": in_stock,
        "reorder_point": point,
        "months_left": left,
        "order": max(0.0, float(high[min(2, horizon - 1)]) - in_stock) if alert else 0.0,
        "alert": alert,
    }
