"""Monthly demand from records: what was done, when clinics are open, what the book said at the time."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd
import pytest

from features.demand_series import read_demand
from features.errors import NotBuiltError, NotEnoughDataError, SettingsError
from features.opening_days import calendar_day
from features.opening_hours import opening_months
from features.supplies import read_supplies
from training.demand.covariates import calendar_months, provisional_months
from training.demand.practice import history_of

NOW = datetime(2026, 11, 17, 1, 30, tzinfo=UTC)
MONTHS = pd.period_range("2024-01", "2027-03", freq="M")


def test_series_are_the_visits_kept(small_practice: Any) -> None:
    records = read_demand(small_practice.settings, NOW)
    rows = small_practice.rows(
        "SELECT clinic_id, service_line, clinician_id, timezone('Asia/Shanghai', starts_at), duration_minutes, status, "
        "appointment_id, patient_id, known_at FROM appointments ORDER BY known_at, recorded_at"
    )
    names = ["clinic", "service_line", "clinician", "at", "minutes", "status", "appointment", "patient", "known"]
    latest = pd.DataFrame(rows, columns=names).drop_duplicates("appointment", keep="last")
    kept = latest[latest["status"] == "completed"]
    kept = kept.assign(month=pd.to_datetime(kept["at"]).dt.to_period("M"))
    kept = kept[kept["month"].isin(records.months)]
    expected = kept.groupby(["clinic", "service_line", "clinician", "month"])
    found = records.series.set_index(["clinic", "service_line", "clinician", "month"])
    pd.testing.assert_series_equal(
        found["visits"][found["visits"] > 0], expected.size().astype(float), check_names=False
    )
    hours = found["chair_hours"][found["visits"] > 0]
    np.testing.assert_allclose(hours, expected["minutes"].sum().astype(float) / 60)
    assert records.months[-1] == pd.Period("2026-10")
    assert 0 < found["new_patients"].sum() <= kept["patient"].nunique()
    (received,) = small_practice.rows(
        "SELECT sum(CASE kind WHEN 'payment' THEN amount_cents WHEN 'refund' THEN -abs(amount_cents) END) "
        "FROM payments WHERE strftime(timezone('Asia/Shanghai', paid_at), '%Y-%m') BETWEEN "
        f"'{records.months[0]}' AND '{records.months[-1]}'"
    )[0]
    assert found["revenue"].sum() == pytest.approx(received / 100, rel=0.01)  # a month of refunds alone counts as zero


def test_nothing_recorded_later_is_seen(small_practice: Any) -> None:
    earlier = NOW - timedelta(days=92)
    then, now = (read_demand(small_practice.settings, moment) for moment in (earlier, NOW))
    assert then.months[-1] == pd.Period("2026-07")
    keys = ["clinic", "service_line", "clinician", "month"]
    both = then.series.merge(now.series, on=keys, suffixes=("", "_now"))
    assert (both["visits"] <= both["visits_now"]).all()
    # What stood in the book three months ago is the same, whether asked then or now.
    columns = ["step", "clinic", "service_line", "booked"]
    asked_then = then.book.loc[then.book["months_back"] == 0, columns].reset_index(drop=True)
    shifted = read_demand(small_practice.settings, datetime(2026, 11, 17, 1, 30, tzinfo=UTC)).book
    asked_now = shifted.loc[shifted["months_back"] == 3, columns].reset_index(drop=True)
    again = read_demand(small_practice.settings, datetime(2026, 8, 17, 1, 30, tzinfo=UTC)).book
    pd.testing.assert_frame_equal(asked_now, again.loc[again["months_back"] == 0, columns].reset_index(drop=True))
    assert set(asked_then["step"]) <= {1, 2, 3}


def test_records_without_a_whole_month_are_refused(small_practice: Any, practice_here: Any) -> None:
    with pytest.raises(NotBuiltError, match="revisit import"):
        read_demand(practice_here.settings, NOW)
    with pytest.raises(NotEnoughDataError, match="whole month"):
        read_demand(small_practice.settings, datetime(2020, 1, 1, tzinfo=UTC))


def test_supplies_are_read(small_practice: Any) -> None:
    stock, use = read_supplies(small_practice.settings, NOW)
    assert set(use["supply"]) <= set(stock["supply"])
    assert (stock["stock_quantity"] >= 0).all()


def plan(hours: float = 20.0, since: date = date(2024, 1, 1)) -> pd.DataFrame:
    return pd.DataFrame(
        [{"clinic": "A", "weekday": day, "chair_hours": hours, "valid_from_on": since} for day in range(6)]
    )


def closed(*days: date) -> pd.DataFrame:
    return pd.DataFrame({"clinic": ["A"] * len(days), "closed_on": list(days)}, columns=["clinic", "closed_on"])


def test_opening_hours_follow_the_plan_of_the_day() -> None:
    capacity = pd.concat([plan(20.0), plan(30.0, date(2024, 3, 1))])
    found = opening_months(capacity, closed(date(2024, 3, 4)), ["A"], MONTHS[:4], "CN").set_index("month")
    assert found.loc["2024-01", "open_days"].item() == 27  # 31 days, four Sundays
    assert found.loc["2024-01", "chair_hours"].item() == 27 * 20
    assert found.loc["2024-03", "chair_hours"].item() == (26 - 1) * 30
    assert found.loc["2024-03", "open_share"].item() == pytest.approx(1 - 1 / 26)


def test_the_next_spring_festival_is_taken_as_closed_if_earlier_ones_were() -> None:
    festival = [date(2026, 2, day) for day in range(15, 24)]
    found = opening_months(plan(), closed(*festival), ["A"], MONTHS, "CN").set_index("month")
    assert found.loc["2027-02", "is_assumed"].item()
    assert found.loc["2027-02", "open_days"].item() < 20
    assert found.loc["2026-02", "open_share"].item() == 1.0  # a holiday is not a closure out of turn
    assert not opening_months(plan(), closed(), ["A"], MONTHS, "CN")["is_assumed"].any()


def test_china_has_its_workdays_and_says_what_is_provisional() -> None:
    table = calendar_months("CN", MONTHS)
    for month, workdays in (("2026-02", 16), ("2025-10", 18), ("2025-01", 19)):  # by the State Council's lists
        assert table.loc[month, "workdays"] == workdays
    assert calendar_day("CN", date(2026, 2, 14)).is_made_up
    assert provisional_months("CN", MONTHS)[0] >= pd.Period("2027-01")
    with pytest.raises(SettingsError, match="ISO 3166"):
        calendar_months("QQ", MONTHS[:2])


def test_shares_of_the_festival_windows_fall_in_the_right_months() -> None:
    table = calendar_months("CN", MONTHS)
    # 29 January 2025: ten of ten days before lie in January; 17 February 2026: none of the seven from it on do.
    assert table.loc["2025-01", "festival_before"] > 0.3 > -0.3 > table.loc["2026-01", "festival_before"]
    for name in ("before", "during", "after"):
        by_year = table[f"festival_{name}"].groupby(table.index.year).sum()
        assert by_year[:3].to_numpy() == pytest.approx(0, abs=1e-9)  # every window falls somewhere
    assert list(calendar_months("DE", MONTHS).columns) == ["workdays"]


def test_a_history_begins_with_its_clinic_and_is_not_known_while_closed(small_practice: Any) -> None:
    records = read_demand(small_practice.settings, NOW)
    history = history_of(records, "visits")
    assert np.isfinite(history.bottom).all()
    month = records.months[5]
    shut = records.opening["month"] == month
    records.opening.loc[shut, "open_share"] = 0.0
    assert np.isnan(history_of(records, "visits").bottom[:, 5]).all()
    records.opening.loc[shut, "open_share"] = 0.5
    np.testing.assert_allclose(history_of(records, "visits").bottom[:, 5], 2 * history.bottom[:, 5])
