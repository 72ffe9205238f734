"""When clinics are open, month by month: chair hours and closures, as planned."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from features.opening_days import SPRING_FESTIVAL, calendar_days


def opening_months(
    capacity: pd.DataFrame, closures: pd.DataFrame, clinics: Sequence[str], months: pd.PeriodIndex, country: str
) -> pd.DataFrame:
    """Sum opening days and chair hours by clinic and month.

    Parameters
    ----------
    capacity : pandas.DataFrame
        One row per clinic, weekday (Monday is 0) and valid_from_on: chair_hours from that day on.
    closures : pandas.DataFrame
        One row per clinic and closed_on.
    clinics : sequence of str
        Those wanted.
    months : pandas.PeriodIndex
        Those wanted, past and to come.
    country : str
        Whose public holidays count.

    Returns
    -------
    pandas.DataFrame
        One row per clinic and month: open_days, open_share (of the days on which it would be open, public holidays
        apart: 1 unless it was closed out of turn), chair_hours (available; NaN without capacity) and is_assumed
        (whether a Spring Festival whose closure is not announced yet was taken as closed, like the one before).
    """
    days = pd.DataFrame({"day": pd.date_range(months[0].start_time, months[-1].end_time.normalize())})
    first, last = months[0].start_time.date(), months[-1].end_time.date()
    days["holiday"] = [day.holiday for day in calendar_days(country, first, last)]
    days["weekday"] = days["day"].dt.weekday
    days["month"] = days["day"].dt.to_period("M")
    tables = []
    for clinic in clinics:
        own = days.assign(clinic=clinic, chair_hours=_hours(capacity[capacity["clinic"] == clinic], days))
        closed_on = pd.to_datetime(closures.loc[closures["clinic"] == clinic, "closed_on"])
        own["is_closed"] = own["day"].isin(closed_on)
        is_festival = own["holiday"] == SPRING_FESTIVAL
        announced_until = closed_on.max() if len(closed_on) else pd.Timestamp.min
        past = is_festival & (own["day"] <= announced_until)
        newest = own[past & (own["day"].dt.year == own.loc[past, "day"].dt.year.max())]
        own["is_assumed"] = is_festival & ~past & bool(newest["is_closed"].mean() > 0.5)
        own["is_out_of_turn"] = own["is_closed"] & (own["holiday"] == "")
        tables.append(own)
    table = pd.concat(tables, ignore_index=True)
    table["is_usual"] = table["chair_hours"].fillna(1.0) > 0
    table["is_open"] = table["is_usual"] & ~table["is_closed"] & ~table["is_assumed"]
    table["chair_hours"] = table["chair_hours"].where(table["is_open"] | table["chair_hours"].isna(), 0.0)
    table["lost"] = table["is_usual"] & table["is_out_of_turn"]
    grouped = table.groupby(["clinic", "month"])
    found = grouped[["is_open", "lost", "is_usual"]].sum().rename(columns={"is_open": "open_days"})
    found["open_share"] = 1 - found.pop("lost") / found.pop("is_usual").clip(lower=1)
    found["chair_hours"] = grouped["chair_hours"].sum(min_count=1)
    found["is_assumed"] = grouped["is_assumed"].any()
    return found.reset_index()


def _hours(capacity: pd.DataFrame, days: pd.DataFrame) -> pd.Series:
    """Chair hours of each day by the plan valid then; the first plan counts for the days before it."""
    if capacity.empty:
        return pd.Series(float("nan"), index=days.index)
    plan = capacity.assign(valid_from=pd.to_datetime(capacity["valid_from_on"]).fillna(pd.Timestamp("1970-01-01")))
    plan = plan[["weekday", "valid_from", "chair_hours"]].astype({"weekday": days["weekday"].dtype})
    first = plan.sort_values("valid_from").drop_duplicates("weekday").assign(valid_from=pd.Timestamp("1970-01-01"))
    plan = pd.concat([first, plan]).sort_values("valid_from", kind="stable")
    plan["valid_from"] = plan["valid_from"].astype(days["day"].dtype)
    found = pd.merge_asof(days[["day", "weekday"]], plan, left_on="day", right_on="valid_from", by="weekday")
    return found["chair_hours"].fillna(0.0).set_axis(days.index)
