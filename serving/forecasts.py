"""The newest forecast as it is stored, read once per forecast; `features.forecasts` says what the files hold.

The files are small and read with DuckDB, on first use: the web worker holds no
data frames.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

OURS = "revisit"  # among the backtest's methods
STAMP = "%Y%m%dT%H%M%SZ"
QUANTILES = ("q10", "q20", "q30", "q40", "q50", "q60", "q70", "q80", "q90")
PRACTICE = "practice"
MEASURES = ("visits", "chair_hours", "revenue", "new_patients")  # in the order of the page


@dataclass(frozen=True)
class Month:
    """One month of a series.

    Attributes
    ----------
    month : date
        Its first day.
    quantiles : tuple of float
        Forecast, by `QUANTILES`; empty where none was made. Of a month that is
        over: what would have been forecast a year before.
    actual : float or None
        What came; None while the month is not over.
    is_provisional : bool
        Whether the year's official days off were not out yet.
    """

    month: date
    quantiles: tuple[float, ...]
    actual: float | None
    is_provisional: bool = False


@dataclass(frozen=True)
class Series:
    """One measure of one part of the practice; `past` and `ahead` oldest first."""

    measure: str
    name: str
    level: str
    clinic: str
    service_line: str
    clinician: str
    note: str
    past: tuple[Month, ...]
    ahead: tuple[Month, ...]
    words: Mapping[str, str]


@dataclass(frozen=True)
class Load:
    """Chair hours of a clinic's month; `overload` is the chance that more is needed than can be filled."""

    clinic: str
    month: date
    needed: float
    needed_q90: float
    usable: float | None
    overload: float | None
    add_hours: float | None
    is_closure_assumed: bool


@dataclass(frozen=True)
class Supply:
    """One consumable of a clinic; quantities in `unit`, `alert` ``order now``, ``order soon`` or empty."""

    clinic: str
    supply: str
    name: str
    unit: str
    in_stock: float
    needed_month: float
    months_left: int
    order: float
    alert: str


@dataclass(frozen=True)
class Forecast:
    """All of one forecast; `series` by measure and name."""

    made_at: datetime
    series: Mapping[tuple[str, str], Series]
    loads: tuple[Load, ...]
    supplies: tuple[Supply, ...]

    @property
    def measures(self) -> tuple[str, ...]:
        """Those that were forecast, in their order."""
        found = dict.fromkeys(measure for measure, _ in self.series)
        return tuple(sorted(found, key=lambda one: (MEASURES.index(one) if one in MEASURES else len(MEASURES), one)))

    def seen_by(self, clinics: Collection[str] | None) -> Forecast:
        """Leave what somebody limited to `clinics` may see: nothing that sums up others."""
        if clinics is None:
            return self
        return Forecast(
            self.made_at,
            {key: one for key, one in self.series.items() if one.clinic in clinics},
            tuple(load for load in self.loads if load.clinic in clinics),
            tuple(supply for supply in self.supplies if supply.clinic in clinics),
        )


class Forecasts:
    """Reads the newest forecast of a folder, again only when a newer one is there."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._held: tuple[str, Forecast] | None = None

    def newest(self) -> Forecast | None:
        """Return the newest forecast; None before the first."""
        kept = sorted(path.stem for path in (self._folder / "made").glob("*.parquet"))
        if not kept:
            return None
        held = self._held
        if held is None or held[0] != kept[-1]:
            held = self._held = (kept[-1], _read(self._folder, kept[-1]))
        return held[1]


def _read(folder: Path, stamp: str) -> Forecast:
    made = _rows(folder / "made" / f"{stamp}.parquet", "ORDER BY month")
    actuals = _by_series(_rows(folder / "actuals.parquet", "ORDER BY month"))
    tested = _by_series(_newest_origin(_rows(folder / "backtest.parquet", f"WHERE method = '{OURS}' ORDER BY month")))
    words: dict[tuple[str, str], dict[str, str]] = {}
    for row in _rows(folder / "words.parquet"):
        words.setdefault((row["measure"], row["series"]), {})[row["language"]] = row["text"]
    series = {
        key: _series(rows, actuals.get(key, []), tested.get(key, []), words.get(key, {}))
        for key, rows in _by_series(made).items()
    }
    return Forecast(
        datetime.strptime(stamp, STAMP).replace(tzinfo=UTC),
        series,
        tuple(_load(row) for row in _rows(folder / "capacity.parquet", "ORDER BY clinic, month")),
        tuple(_supply(row) for row in _rows(folder / "consumables.parquet", "ORDER BY clinic, supply")),
    )


def _rows(path: Path, rest: str = "") -> list[dict[str, Any]]:
    """Rows of one file; none if it was not written: what the records do not hold is not forecast."""
    from features.duck import connect

    if not path.is_file():
        return []
    with connect() as con:
        con.execute("SET threads = 1")
        found = con.execute(f"SELECT * FROM read_parquet($path) {rest}", {"path": path.as_posix()})
        names = [column[0] for column in found.description or ()]
        return [dict(zip(names, row, strict=True)) for row in found.fetchall()]


def _by_series(rows: Sequence[dict[str, Any]]) -> dict[tuple[str, str], list[dict[str, Any]]]:
    found: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in rows:
        found.setdefault((row["measure"], row["series"]), []).append(row)
    return found


def _newest_origin(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    newest = max((row["origin"] for row in rows), default=None)
    return [row for row in rows if row["origin"] == newest]


def _series(
    made: Sequence[dict[str, Any]],
    actuals: Sequence[dict[str, Any]],
    tested: Sequence[dict[str, Any]],
    words: Mapping[str, str],
) -> Series:
    first, before = made[0], {row["month"]: _quantiles(row) for row in tested}
    return Series(
        measure=first["measure"],
        name=first["series"],
        level=first["level"],
        clinic=first["clinic"],
        service_line=first["service_line"],
        clinician=first["clinician"],
        note=first["note"] or "",
        past=tuple(_month(row, before.get(row["month"], ()), row["actual"]) for row in actuals),
        ahead=tuple(_month(row, _quantiles(row), None) for row in made),
        words=words,
    )


def _month(row: Mapping[str, Any], quantiles: tuple[float, ...], actual: float | None) -> Month:
    return Month(row["month"].date(), quantiles, actual, bool(row.get("is_provisional", False)))


def _quantiles(row: Mapping[str, Any]) -> tuple[float, ...]:
    found = tuple(row[name] for name in QUANTILES)
    return () if any(value is None or value != value for value in found) else found


def _load(row: Mapping[str, Any]) -> Load:
    return Load(
        clinic=row["clinic"],
        month=row["month"].date(),
        needed=row["needed"],
        needed_q90=row["needed_q90"],
        usable=_known(row["usable"]),
        overload=_known(row["overload"]),
        add_hours=_known(row["add_hours"]),
        is_closure_assumed=row["is_closure_assumed"],
    )


def _supply(row: Mapping[str, Any]) -> Supply:
    shared = ("clinic", "supply", "in_stock", "needed_month", "months_left", "order", "alert")
    return Supply(
        name=row["supply_name"] or row["supply"],
        unit=row["unit"] or "",
        **{name: row[name] for name in shared},
    )


def _known(value: float | None) -> float | None:
    return None if value is None or value != value else value
