"""Families of people, services and the clinic against loops in plain Python over tiny practices."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import chinese_calendar
import duckdb
import pandas as pd
import pytest

from features.duck import connect
from features.families.clinic import CLINIC
from features.families.people import PEOPLE
from features.families.services import SERVICES
from features.patients import attach_patients, family_rows
from features.settings import Practice, Settings
from features.spec import Family

FAMILIES = (PEOPLE, SERVICES, CLINIC)
ZONE = ZoneInfo("Asia/Shanghai")
SETTINGS = Settings(practice=Practice(time_zone=ZONE.key))
FIRST, LAST = datetime(2024, 6, 1, tzinfo=UTC), datetime(2026, 10, 1, tzinfo=UTC)
MOMENTS = [datetime(2025, 2, 3, 16, tzinfo=UTC), datetime(2026, 2, 9, 3, 20, tzinfo=UTC), LAST]
FESTIVALS = [date(2024, 2, 10), date(2025, 1, 29), date(2026, 2, 17), date(2027, 2, 6)]
DAY, HOUR = timedelta(days=1), timedelta(hours=1)
KEPT, MISSED = ("arrived", "completed"), ("no_show", "cancelled_late")
Row = dict[str, Any]


class TinyPractice:
    """Ten patients, three clinics, a merge; every table as states, and what of them was known at a moment."""

    def __init__(self, seed: int) -> None:
        self.dice = random.Random(seed)
        self.people = [f"p{n}" for n in range(10)]
        self.merged = ("p9", "p1", datetime(2025, 11, 1, tzinfo=UTC))
        self.tables: dict[str, list[Row]] = {
            "patients": list(self._patients()),
            "appointments": [state for n in range(300) for state in self._booking(f"a{n:03}")],
            "clinicians": list(self._clinicians()),
            "closures": list(self._closures()),
            "capacity": list(self._capacity()),
        }
        for rows in self.tables.values():
            for row in rows:
                row.setdefault("recorded_at", row["known_at"])

    def _moment(self) -> datetime:
        return FIRST + (LAST - FIRST) * self.dice.random()

    def _patients(self) -> Iterator[Row]:
        pick = self.dice.choice
        for patient in self.people:
            known = FIRST + self.dice.uniform(-400, 300) * DAY
            row = {
                "patient_id": patient,
                "home_clinic_id": pick(["k1", "k1", "k2", None]),
                "referred_by_id": pick([None, None, *(set(self.people) - {patient})]),
                "household_id": pick(["h1", "h2", "h3", None]),
                "sex": pick(["female", "male", "unknown", None]),
                "source_channel": pick(["Referral", "search", None, "转介绍"]),
                "membership": pick([None, "gold", " "]),
                "tags": pick([None, "", "anxious", "VIP客户;anxious", "diabetes;handicap;x"]),
                "birth_year": pick([1950, 1988, 2020, None]),
                "first_seen_on": pick([None, known.date(), (known + 200 * DAY).date()]),
                "departure": None,
            }
            yield row | {"known_at": known}
            if pick([True, False]):
                later = {"household_id": pick(["h1", "h2", None]), "departure": pick([None, "moved"])}
                yield row | later | {"known_at": self._moment()}

    def _booking(self, number: str) -> Iterator[Row]:
        pick = self.dice.choice
        starts = self._moment()
        booked = starts - pick([2 * HOUR, 5 * DAY, 40 * DAY])
        row = {
            "appointment_id": number,
            "patient_id": pick(self.people),
            "clinic_id": pick(["k1", "k1", "k2", "k3"]),
            "clinician_id": pick(["d1", "d1", "d2", None]),
            "service_line": pick(["hygiene", "filling", "Emergency", "crown", None]),
            "recall_type": pick([None, None, "check_up"]),
            "duration_minutes": pick([30, 45, None]),
            "is_requested_clinician": pick([True, False, None]),
            "booked_at": booked,
            "starts_at": starts,
        }
        yield row | {"status": "booked", "known_at": booked}
        if pick([False] * 5 + [True]):
            row |= {"clinic_id": pick(["k1", "k2"]), "starts_at": starts + 3 * DAY}
            yield row | {"status": "booked", "known_at": booked + HOUR}
        ended = pick([*KEPT, *KEPT, *MISSED, "cancelled_early", "booked"])
        fee = pick([None, 10_000, 25_000, 33_333]) if ended in KEPT else None
        yield row | {"status": ended, "known_at": row["starts_at"] + HOUR, "fee_cents": fee}

    def _clinicians(self) -> Iterator[Row]:
        for clinician, left, told in (("d1", date(2026, 3, 1), 60), ("d2", date(2025, 12, 24), -9)):
            row = {"clinician_id": clinician, "known_at": FIRST - 900 * DAY}
            yield row
            known = datetime(left.year, left.month, left.day, tzinfo=UTC) - told * DAY
            yield row | {"left_on": left, "known_at": known}

    def _closures(self) -> Iterator[Row]:
        for n, (clinic, day) in enumerate([("k1", 9), ("k1", 12), ("k1", 12), ("k2", 9), ("k3", 11)]):
            row = {"closure_id": f"c{n}", "clinic_id": clinic, "closed_on": date(2026, 2, day)}
            yield row | {"known_at": datetime(2026, 2, 9 if n == 1 else 1, tzinfo=UTC)}

    def _capacity(self) -> Iterator[Row]:
        for clinic in ("k1", "k2"):
            for weekday in range(7):
                for since, hours in ((None, 8.5), (date(2026, 2, 12), 3.25)):
                    yield {
                        "capacity_id": f"{clinic}{weekday}{since}",
                        "clinic_id": clinic,
                        "weekday": weekday,
                        "chair_hours": hours + weekday,
                        "valid_from_on": since,
                        "known_at": FIRST - 900 * DAY,
                    }

    def known(self, table: str, at: datetime) -> list[Row]:
        """States that were the newest just before `at`, of merged patients under the number that stays."""
        newest: dict[str, Row] = {}
        key = next(iter(self.tables[table][0]))
        for row in sorted(self.tables[table], key=lambda row: row["known_at"]):
            if row["known_at"] < at:
                newest[row[key]] = row
        old, new, since = self.merged
        rows = list(newest.values())
        if since < at:
            rows = [row for row in rows if table != "patients" or row["patient_id"] != old]
            names = ("patient_id", "referred_by_id")
            rows = [row | {n: new for n in names if row.get(n) == old} for row in rows]
        return rows


class Known:
    """What the oracle asks about one patient at one moment."""

    def __init__(self, practice: TinyPractice, patient: str, at: datetime) -> None:
        self.at, self.day = at, at.astimezone(ZONE).date()
        self.practice, self.patient = practice, patient
        self.people = practice.known("patients", at)
        self.me = next(row for row in self.people if row["patient_id"] == patient)
        bookings = practice.known("appointments", at)
        self.bookings = [row for row in bookings if row["patient_id"] == patient]
        self.kept = sorted((b for b in self.bookings if b["status"] in KEPT), key=lambda b: b["starts_at"])
        house = self.me["household_id"]
        self.others = [
            row["patient_id"]
            for row in self.people
            if house and row["household_id"] == house and row["patient_id"] != patient and not row["departure"]
        ]
        self.house_bookings = [b for b in bookings if b["patient_id"] in self.others]
        self.lines = Counter(b["service_line"] for b in self.kept if b["service_line"])

    def days(self, moments: Sequence[datetime]) -> float:
        """Elapsed days since the last of `moments`."""
        return (self.at - max(moments)) / DAY if moments else math.nan

    def of_year(self, bookings: Sequence[Row]) -> list[Row]:
        return [b for b in bookings if self.at - 365 * DAY < b["starts_at"] <= self.at]

    def main(self) -> tuple[str | None, int, int]:
        """The clinician seen most, their visits, and all visits with a clinician."""
        seen = [b for b in self.kept if b["clinician_id"]]
        count = Counter(b["clinician_id"] for b in seen)
        last = {b["clinician_id"]: b["starts_at"] for b in seen}
        best = max(count, key=lambda who: (count[who], last[who]), default=None)
        return best, count.get(best, 0), len(seen)

    def left(self) -> float:
        """Days since the main clinician's last day."""
        for row in self.practice.known("clinicians", self.at):
            if row["clinician_id"] == self.main()[0] and row.get("left_on"):
                return float((self.day - row["left_on"]).days)
        return math.nan


def share(part: float, whole: float) -> float:
    return part / whole if whole else math.nan


def first_seen(k: Known) -> float:
    day = k.me["first_seen_on"]
    if day and day <= k.day:
        return float((k.day - day).days)
    return (k.at - min(r["known_at"] for r in k.practice.tables["patients"] if r["patient_id"] == k.patient)) / DAY


def requested(k: Known) -> float:
    asked = [b["is_requested_clinician"] for b in k.kept if b["is_requested_clinician"] is not None]
    return share(sum(asked), len(asked))


def age(k: Known) -> float:
    year = k.day.year + (k.day.timetuple().tm_yday - 1) / 365
    return year - k.me["birth_year"] - 0.5 if k.me["birth_year"] else math.nan


def house_missed(k: Known) -> float:
    ended = [b["status"] for b in k.house_bookings if b["status"] in (*KEPT, *MISSED)]
    return share(sum(status in MISSED for status in ended), len(ended))


ORACLE_OF_PEOPLE: dict[str, Callable[[Known], float]] = {
    "years_since_birth": age,
    "is_female": lambda k: {"female": 1, "male": 0}.get(k.me["sex"], math.nan),
    "days_since_first_seen": first_seen,
    "household_members_count_ever": lambda k: 1 + len(k.others) if k.me["household_id"] else math.nan,
    "household_visits_kept_count_365d": lambda k: sum(b["status"] in KEPT for b in k.of_year(k.house_bookings)),
    "household_visits_missed_share_ever": house_missed,
    "days_since_household_visit": lambda k: k.days([b["starts_at"] for b in k.house_bookings if b["status"] in KEPT]),
    "has_household_booking_ahead": lambda k: any(
        b["status"] == "booked" and b["starts_at"] > k.at for b in k.house_bookings
    ),
    "is_referred": lambda k: bool(k.me["referred_by_id"]) or k.me["source_channel"] in ("Referral", "转介绍"),
    "patients_sent_count_ever": lambda k: sum(row["referred_by_id"] == k.patient for row in k.people),
    "is_member": lambda k: k.me["membership"] == "gold",
    "tags_set_count_ever": lambda k: len([tag for tag in (k.me["tags"] or "").split(";") if tag]),
    "has_vip_tag": lambda k: "VIP" in (k.me["tags"] or ""),
    "clinicians_seen_count_ever": lambda k: len({b["clinician_id"] for b in k.kept} - {None}),
    "clinician_main_share_ever": lambda k: share(*k.main()[1:]),
    "has_lost_clinician": lambda k: k.left() > 0,
    "days_since_clinician_left": Known.left,
    "visits_requested_share_ever": requested,
}


def is_recall(booking: Row) -> bool:
    return booking["recall_type"] is not None


def is_urgent(booking: Row) -> bool:
    booked, starts = (booking[name].astimezone(ZONE).date() for name in ("booked_at", "starts_at"))
    return not is_recall(booking) and (booked == starts or booking["service_line"] == "Emergency")


def mean(values: Sequence[float | None]) -> float:
    given = [value for value in values if value is not None]
    return share(sum(given), len(given))


def fees(bookings: Sequence[Row]) -> list[float | None]:
    return [b.get("fee_cents") for b in bookings]


ORACLE_OF_SERVICES: dict[str, Callable[[Known], float]] = {
    "visits_recall_share_ever": lambda k: share(sum(map(is_recall, k.kept)), len(k.kept)),
    "visits_recall_count_365d": lambda k: sum(map(is_recall, k.of_year(k.kept))),
    "days_since_recall_visit": lambda k: k.days([b["starts_at"] for b in k.kept if is_recall(b)]),
    "is_last_visit_recall": lambda k: is_recall(k.kept[-1]) if k.kept else math.nan,
    "visits_urgent_share_ever": lambda k: share(sum(map(is_urgent, k.kept)), len(k.kept)),
    "visits_urgent_count_365d": lambda k: sum(map(is_urgent, k.of_year(k.kept))),
    "days_since_urgent_visit": lambda k: k.days([b["starts_at"] for b in k.kept if is_urgent(b)]),
    "is_last_visit_urgent": lambda k: is_urgent(k.kept[-1]) if k.kept else math.nan,
    "is_first_visit_urgent": lambda k: is_urgent(k.kept[0]) if k.kept else math.nan,
    "visits_other_share_ever": lambda k: share(sum(not is_recall(b) and not is_urgent(b) for b in k.kept), len(k.kept)),
    "service_lines_kept_count_ever": lambda k: len(k.lines),
    "service_lines_kept_count_365d": lambda k: len({b["service_line"] for b in k.of_year(k.kept)} - {None}),
    "service_line_largest_share_ever": lambda k: share(max(k.lines.values(), default=0), k.lines.total()),
    "service_line_last_share_ever": lambda k: (
        share(k.lines[k.kept[-1]["service_line"]], k.lines.total())
        if k.kept and k.kept[-1]["service_line"]
        else math.nan
    ),
    "visits_fee_mean_ever_cents": lambda k: mean(fees(k.kept)),
    "visits_fee_max_ever_cents": lambda k: max([f for f in fees(k.kept) if f], default=math.nan),
    "visits_fee_change_ratio_365d": lambda k: mean(fees(k.of_year(k.kept))) / mean(fees(k.kept)),
    "visits_length_mean_ever_minutes": lambda k: mean([b["duration_minutes"] for b in k.kept]),
}


class ClinicDay:
    """What the oracle asks about the patient's clinic, as known when the day began."""

    def __init__(self, k: Known) -> None:
        self.day = k.day
        midnight = datetime(k.day.year, k.day.month, k.day.day, tzinfo=ZONE)
        own = sorted(k.bookings, key=lambda b: (b["booked_at"], b["starts_at"]))
        self.clinic = k.me["home_clinic_id"] or (own[-1]["clinic_id"] if own else None)
        self.bookings = self._here(k, "appointments", midnight)
        self.closed = {row["closed_on"] for row in self._here(k, "closures", midnight)}
        self.capacity = self._here(k, "capacity", midnight)
        # A clinic without any booking has no figures.
        self.is_known = any(b["clinic_id"] == self.clinic for b in k.practice.tables["appointments"])

    def _here(self, k: Known, table: str, at: datetime) -> list[Row]:
        return [row for row in k.practice.known(table, at) if row["clinic_id"] == self.clinic]

    def within(self, first: int, last: int, status: Sequence[str]) -> list[Row]:
        """Bookings for the days from `first` to before `last`, counted from this one."""
        return [
            b
            for b in self.bookings
            if b["status"] in status and first <= (b["starts_at"].astimezone(ZONE).date() - self.day).days < last
        ]

    def kept_ratio(self) -> float:
        if not self.within(-484, -454, KEPT):
            return math.nan
        return share(len(self.within(-90, 0, KEPT)), len(self.within(-454, -364, KEPT)))

    def load(self) -> float:
        hours = 0.0
        for day in (self.day + n * DAY for n in range(14)):
            valid = [
                row
                for row in self.capacity
                if row["weekday"] == day.weekday() and (row["valid_from_on"] or date.min) <= day
            ]
            if valid and day not in self.closed:
                hours += max(valid, key=lambda row: row["valid_from_on"] or date.min)["chair_hours"]
        return share(sum(b["duration_minutes"] or 0 for b in self.within(0, 14, ["booked"])), hours * 60)

    def fee_ratio(self) -> float:
        now, before = self.within(-90, 0, KEPT), self.within(-454, -364, KEPT)
        paid = same = 0
        for line in {b["service_line"] for b in now}:
            fees_now = [f for f in fees([b for b in now if b["service_line"] == line]) if f is not None]
            fees_before = [f for f in fees([b for b in before if b["service_line"] == line]) if f is not None]
            if fees_now and fees_before:
                paid += sum(fees_now)
                same += math.floor(len(fees_now) * sum(fees_before) / len(fees_before) + 0.5)
        return share(paid, same)


def of_clinic(ask: Callable[[ClinicDay], float]) -> Callable[[Known], float]:
    def answer(k: Known) -> float:
        here = ClinicDay(k)
        return ask(here) if here.is_known else math.nan

    return answer


def workdays(k: Known) -> float:
    return sum(chinese_calendar.is_workday(k.day + n * DAY) for n in range(30))


ORACLE_OF_CLINIC: dict[str, Callable[[Known], float]] = {
    "clinic_visits_kept_ratio_90d": of_clinic(ClinicDay.kept_ratio),
    "clinic_visits_missed_share_90d": of_clinic(
        lambda c: share(len(c.within(-90, 0, MISSED)), len(c.within(-90, 0, [*KEPT, *MISSED])))
    ),
    "clinic_load_share_14d": of_clinic(ClinicDay.load),
    "clinic_fee_ratio_90d": of_clinic(ClinicDay.fee_ratio),
    "clinic_closures_count_14d": of_clinic(lambda c: sum(c.day + n * DAY in c.closed for n in range(14))),
    "clinic_workdays_count_30d": workdays,
    "days_since_spring_festival": lambda k: min((k.day - day).days for day in FESTIVALS if day <= k.day),
    "days_until_spring_festival": lambda k: min((day - k.day).days for day in FESTIVALS if day >= k.day),
}
ORACLES = {"people": ORACLE_OF_PEOPLE, "services": ORACLE_OF_SERVICES, "clinic": ORACLE_OF_CLINIC}


@pytest.fixture(scope="module")
def practice() -> TinyPractice:
    return TinyPractice(1)


@pytest.fixture(scope="module")
def con(fill_tables: Callable[..., None], practice: TinyPractice) -> Iterator[duckdb.DuckDBPyConnection]:
    with connect() as opened:
        fill_tables(opened, practice.tables)
        old, new, since = practice.merged
        opened.execute("CREATE TEMP TABLE merges AS SELECT ? AS old_id, ? AS new_id, ? AS known_at", [old, new, since])
        opened.execute("ALTER TABLE merges ADD COLUMN recorded_at TIMESTAMPTZ")
        yield opened


def compute(con: duckdb.DuckDBPyConnection, condition: str = "true") -> dict[str, pd.DataFrame]:
    """Every family's rows at `MOMENTS`, by patient and moment."""
    attach_patients(con, SETTINGS, FAMILIES, MOMENTS, condition)
    return {f.name: family_rows(con, f).df().set_index(["patient_id", "as_of"]).sort_index() for f in FAMILIES}


@pytest.fixture(scope="module")
def everybody(con: duckdb.DuckDBPyConnection) -> dict[str, pd.DataFrame]:
    return compute(con)


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_every_feature_is_what_a_loop_finds(
    practice: TinyPractice, everybody: dict[str, pd.DataFrame], family: Family
) -> None:
    rows, oracle = everybody[family.name], ORACLES[family.name]
    assert list(rows.columns) == list(oracle)
    assert len(rows) > 20
    known = [Known(practice, patient, moment.to_pydatetime()) for patient, moment in rows.index]
    for name, ask in oracle.items():
        expected = pd.Series([float(ask(k)) for k in known], rows.index, name=name)
        close = 0.005 if name == "years_since_birth" else 1e-9  # the oracle's year has 365 days
        pd.testing.assert_series_equal(rows[name], expected, atol=close, rtol=1e-12)
        assert rows[name].nunique(dropna=False) > 1, f"{name} is the same for all"


@pytest.mark.parametrize("patient", ["p1", "p4"])
def test_one_patient_alone_reads_the_same(
    con: duckdb.DuckDBPyConnection, everybody: dict[str, pd.DataFrame], patient: str
) -> None:
    """Only the own clinics are read, in their window; whom a number sent that was merged into p1 is found."""
    for name, rows in compute(con, f"patient_id = '{patient}'").items():
        pd.testing.assert_frame_equal(rows, everybody[name].loc[[patient]], check_exact=True)


def test_clinics_one_by_one_give_the_same(
    con: duckdb.DuckDBPyConnection, everybody: dict[str, pd.DataFrame], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("features.contexts.BOOKINGS_PER_BUCKET", 1)
    pd.testing.assert_frame_equal(compute(con)["clinic"], everybody["clinic"], check_exact=True)
