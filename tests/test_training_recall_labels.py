"""What came of a randomised contact, and when it was known."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import duckdb
import pytest

from features.as_of import attach_states
from features.duck import connect
from features.recall_labels import attach_recall

DRAWN = datetime(2026, 3, 2, 1, tzinfo=UTC)
ENDS = DRAWN + timedelta(days=56)
LATER = datetime(2026, 9, 1, tzinfo=UTC)
MOMENT = timedelta(microseconds=1)


@pytest.fixture
def con() -> Iterator[duckdb.DuckDBPyConnection]:
    with connect() as opened:
        yield opened


def label(
    con: duckdb.DuckDBPyConnection,
    fill_tables: Callable[..., None],
    visits: list[dict[str, Any]],
    until: datetime = LATER,
    household: str | None = None,
) -> list[tuple[Any, ...]]:
    patient = {"patient_id": "p", "household_id": household, "known_at": DRAWN - timedelta(days=9)}
    fill_tables(con, {"appointments": visits, "patients": [patient]})
    con.execute(
        """CREATE OR REPLACE TEMP TABLE campaign_arms AS SELECT 'x|p' AS arm_id, 'x' AS campaign_id,
        'p' AS patient_id, 'phone' AS arm, 'phone' AS channel, 0.25 AS propensity, $at AS assigned_at,
        $at AS known_at, $at AS recorded_at""",
        {"at": DRAWN},
    )
    for table in ("campaign_arms", "appointments", "patients"):
        attach_states(con, table)
    attach_recall(con, until)
    return con.execute("SELECT label, label_known_at, household_id, propensity FROM recall_label").fetchall()


def visit(starts_at: datetime, status: str = "completed", known_at: datetime | None = None) -> dict[str, Any]:
    row = {"appointment_id": "a", "patient_id": "p", "starts_at": starts_at, "booked_at": DRAWN, "status": status}
    return row | {"known_at": known_at or starts_at + timedelta(hours=1)}


@pytest.mark.parametrize(
    ("visits", "came"),
    [
        ([], 0),
        ([visit(DRAWN + timedelta(days=9))], 1),
        ([visit(DRAWN + timedelta(days=9), "arrived")], 1),
        ([visit(DRAWN + timedelta(days=9), "no_show")], 0),
        ([visit(DRAWN + timedelta(days=9), "booked", DRAWN)], 0),
        ([visit(DRAWN)], 0),
        ([visit(DRAWN + MOMENT)], 1),
        ([visit(ENDS)], 1),
        ([visit(ENDS + MOMENT)], 0),
        ([visit(DRAWN + timedelta(days=9)) | {"patient_id": "another"}], 0),
    ],
    ids=["nothing", "came", "arrived", "missed", "only booked", "before", "just after", "last", "late", "another"],
)
def test_label_of_a_draw(
    con: duckdb.DuckDBPyConnection, fill_tables: Callable[..., None], visits: list[dict[str, Any]], came: int
) -> None:
    assert [row[0] for row in label(con, fill_tables, visits)] == [came]


def test_label_ripens_after_eight_weeks_even_if_the_patient_came_at_once(
    con: duckdb.DuckDBPyConnection, fill_tables: Callable[..., None]
) -> None:
    visits = [visit(DRAWN + timedelta(days=1))]
    assert label(con, fill_tables, visits, ENDS) == []
    assert label(con, fill_tables, visits, ENDS + MOMENT) == [(1, ENDS, "p", pytest.approx(0.25))]


def test_visit_recorded_late_is_not_known_before(
    con: duckdb.DuckDBPyConnection, fill_tables: Callable[..., None]
) -> None:
    recorded = ENDS + timedelta(days=5)
    visits = [visit(DRAWN + timedelta(days=1), known_at=recorded)]
    assert label(con, fill_tables, visits, recorded, "h")[0][:3] == (0, ENDS, "h")
    assert label(con, fill_tables, visits, recorded + MOMENT, "h")[0][:3] == (1, recorded, "h")
