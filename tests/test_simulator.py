"""The simulated practice keeps the contract, its own truth, and its promises of sameness."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from datetime import date, datetime, timedelta
from pathlib import Path

import chinese_calendar
import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression

from features.errors import SettingsError
from features.records.tables import ENDED, TABLES
from features.simulator import BaseRates, PracticePlan, SimulatedPractice, simulate, write_export
from features.simulator.hazards import stay_factor
from features.simulator.opening import draw_up_opening
from features.simulator.panel import seasons
from features.simulator.presets import rates_of

NOW = datetime.fromisoformat("2026-11-17T09:30:00+08:00")  # a Tuesday
ZONE = "Asia/Shanghai"
SEEDLESS = {"mapping.toml", "clinics.csv", "capacity.csv", "closures.csv", "supply_use.csv"}
STATES = {"patients", "recalls"}  # tables whose keys have several states in one export
HELD = ("booked", "arrived", "completed", "no_show")
STANDING_LATE = ("completed", "no_show", "cancelled_late")


def small(**changes: object) -> PracticePlan:
    return PracticePlan(**({"now": NOW, "patients": 300, "years": 2} | changes))  # type: ignore[arg-type]


@pytest.fixture(scope="session")
def practice() -> SimulatedPractice:
    return simulate(PracticePlan(now=NOW))


@pytest.fixture(scope="session")
def bookings(practice: SimulatedPractice) -> pd.DataFrame:
    """One row per booking with its truth and its patient."""
    frame = practice.tables["appointments"].merge(practice.bookings_truth, on="appointment_id")
    patients = practice.tables["patients"].drop_duplicates("patient_id")
    frame = frame.merge(patients[["patient_id", "birth_year"]], on="patient_id")
    frame["local"] = frame["starts_at"].dt.tz_convert(ZONE)
    return frame


@pytest.fixture(scope="session")
def folder(practice: SimulatedPractice, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("export")
    write_export(practice, out)
    return out


def as_bytes(plan: PracticePlan, out: Path) -> dict[str, bytes]:
    return {str(path.relative_to(out)): path.read_bytes() for path in write_export(simulate(plan), out)}


# Sameness


def test_same_plan_gives_the_same_bytes(tmp_path: Path) -> None:
    assert as_bytes(small(), tmp_path / "a") == as_bytes(small(), tmp_path / "b")


def test_other_seed_gives_other_records(tmp_path: Path) -> None:
    first, second = as_bytes(small(), tmp_path / "a"), as_bytes(small(seed=8), tmp_path / "b")
    assert {name for name in first if first[name] == second[name]} == SEEDLESS


def test_language_changes_names_alone(tmp_path: Path) -> None:
    english, chinese = as_bytes(small(), tmp_path / "a"), as_bytes(small(language="zh"), tmp_path / "b")
    assert {name for name in english if english[name] != chinese[name]} == {
        "contact_details.csv",
        "truth/plan.json",
    }
    assert not chinese["contact_details.csv"].isascii()


def test_moment_may_be_given_in_any_zone(tmp_path: Path) -> None:
    elsewhere = datetime.fromisoformat("2026-11-17T01:30:00+00:00")
    assert as_bytes(small(), tmp_path / "a") == as_bytes(small(now=elsewhere), tmp_path / "b")


# The data contract


@pytest.mark.parametrize("name", list(TABLES))
def test_tables_keep_the_contract(practice: SimulatedPractice, name: str) -> None:
    table, frame = TABLES[name], practice.tables[name]
    assert tuple(frame.columns) == table.column_names
    assert len(frame)
    assert not frame.duplicated([table.key, table.known_from] if name in STATES else [table.key]).any()
    for column in table.columns:
        values = frame[column.name].replace("", None).dropna()
        assert not column.required or len(values) == len(frame), column.name
        assert not column.values or set(values) <= set(column.values), column.name
        assert column.minimum is None or float(values.min()) >= column.minimum, column.name
        assert column.maximum is None or float(values.max()) <= column.maximum, column.name


@pytest.mark.parametrize("name", list(TABLES))
def test_files_have_the_contracts_headers(folder: Path, name: str) -> None:
    mapping = tomllib.loads((folder / "mapping.toml").read_text(encoding="utf-8"))
    entry = mapping["tables"][name]
    header = (folder / entry["file"]).read_text(encoding="utf-8").splitlines()[0].split(",")
    assert tuple(header) == tuple(entry["columns"]) == tuple(entry["columns"].values()) == TABLES[name].column_names


def test_files_hold_wall_clock_times_and_plain_booleans(folder: Path, practice: SimulatedPractice) -> None:
    written = pd.read_csv(folder / "appointments.csv", dtype=str, keep_default_na=False)
    read = pd.to_datetime(written["starts_at"], format="%Y-%m-%d %H:%M:%S").dt.tz_localize(ZONE)
    assert (read == practice.tables["appointments"]["starts_at"]).all()
    assert set(written["is_requested_clinician"]) == {"true", "false"}
    booked = written[written["status"] == "booked"]
    assert len(booked)
    assert set(booked["status_known_at"]) == set(booked["fee_cents"]) == {""}


def test_foreign_keys_hold(practice: SimulatedPractice) -> None:
    tables = practice.tables
    known = set(tables["patients"]["patient_id"])
    assert set(tables["contact_details"]["patient_id"]) == known
    assert set(tables["appointments"]["patient_id"]) <= known
    assert set(tables["communications"]["patient_id"]) <= known
    assert set(tables["communications"]["appointment_id"]) <= {"", *tables["appointments"]["appointment_id"]}
    assert set(tables["patients"]["referred_by_id"]) <= {"", *known}
    assert list(practice.bookings_truth["appointment_id"]) == list(tables["appointments"]["appointment_id"])


def test_phones_cannot_be_dialled(practice: SimulatedPractice) -> None:
    phones = practice.tables["contact_details"]["phone"]
    assert phones.is_unique
    assert phones.str.startswith("000-").all()


# Time


def test_nothing_is_known_after_now(practice: SimulatedPractice) -> None:
    for name, table in TABLES.items():
        for column in table.columns:
            if column.type == "instant" and (name, column.name) != ("appointments", "starts_at"):
                assert not (practice.tables[name][column.name] > NOW).any(), (name, column.name)


def test_statuses_fit_the_moments_they_were_learned(bookings: pd.DataFrame) -> None:
    end = bookings["starts_at"] + pd.to_timedelta(bookings["duration_minutes"], unit="min")
    known, ahead = bookings["status_known_at"], bookings["starts_at"] - bookings["status_known_at"]
    is_ = bookings["status"].eq
    assert (bookings["starts_at"] > bookings["booked_at"]).all()
    assert not (known < bookings["booked_at"]).any()
    assert (known[is_("no_show")] == end[is_("no_show")]).all()
    assert ((known - end).abs()[is_("completed")] <= timedelta(minutes=10)).all()
    assert (ahead[is_("cancelled_early") | is_("rescheduled")] >= timedelta(hours=24)).all()
    assert ahead[is_("cancelled_late")].between(timedelta(0), timedelta(hours=24), inclusive="neither").all()
    assert (end[is_("booked")] >= NOW).all()
    assert (
        bookings.loc[bookings["starts_at"] > NOW, "status"]
        .isin(["booked", "cancelled_early", "cancelled_late", "rescheduled"])
        .all()
    )


def test_patient_rows_do_not_tell_of_later_visits(practice: SimulatedPractice) -> None:
    patients = practice.tables["patients"].dropna(subset=["first_seen_on"])
    known_on = patients["known_from_at"].dt.tz_convert(ZONE).dt.date
    assert len(patients)
    assert (patients["first_seen_on"] <= known_on).all()
    first = practice.tables["appointments"].groupby("patient_id")["booked_at"].min()
    known = practice.tables["patients"].groupby("patient_id")["known_from_at"].min().reindex(first.index)
    assert (known <= first).all()


def test_a_moved_booking_is_made_anew(bookings: pd.DataFrame) -> None:
    moved = bookings[bookings["status"] == "rescheduled"]
    fresh = set(zip(bookings["patient_id"], bookings["booked_at"], bookings["service_line"], strict=True))
    assert set(zip(moved["patient_id"], moved["status_known_at"], moved["service_line"], strict=True)) <= fresh


def test_reminders_follow_the_booking_and_precede_the_visit(practice: SimulatedPractice) -> None:
    messages = practice.tables["communications"]
    reminders = messages[messages["purpose"] == "reminder"].merge(
        practice.tables["appointments"], on="appointment_id", suffixes=("", "_booked")
    )
    assert (reminders["patient_id"] == reminders["patient_id_booked"]).all()
    assert (reminders["sent_at"] > reminders["booked_at"]).all()
    assert (reminders["sent_at"] < reminders["starts_at"]).all()
    days = reminders["starts_at"].dt.tz_convert(ZONE).dt.normalize()
    days_ahead = (days - reminders["sent_at"].dt.tz_convert(ZONE).dt.normalize()).dt.days
    assert set(days_ahead) == {1, 2}
    assert (messages["replied_at"].isna() == (messages["outcome"] == "")).all()
    assert not (messages["replied_at"] < messages["sent_at"]).any()


def test_recall_messages_stop_where_they_must(practice: SimulatedPractice) -> None:
    messages = practice.tables["communications"]
    recall = messages[messages["purpose"] == "recall"]
    patients = practice.tables["patients"].drop_duplicates("patient_id")
    refused = patients.query("not is_contact_allowed")["patient_id"]
    assert len(recall)
    assert not recall["patient_id"].isin(refused).any()
    out = recall[recall["outcome"] == "opted_out"].groupby("patient_id")["replied_at"].min()
    assert not (recall["sent_at"] > recall["patient_id"].map(out)).any()


def test_who_died_or_moved_has_no_booking_left(practice: SimulatedPractice) -> None:
    patients = practice.tables["patients"]
    gone = patients[patients["departed_on"].notna()].set_index("patient_id")["departed_on"]
    assert len(gone) > 10
    bookings = practice.tables["appointments"]
    left = pd.to_datetime(bookings["patient_id"].map(gone)).dt.tz_localize(ZONE)
    after = bookings[bookings["starts_at"] >= left]
    assert len(after)
    assert after["status"].isin(["cancelled_early", "cancelled_late", "rescheduled"]).all()


# The diary


def test_no_clinician_is_in_two_places(bookings: pd.DataFrame) -> None:
    held = bookings[bookings["status"].isin(HELD)].sort_values(["clinician_id", "starts_at"])
    end = held["starts_at"] + pd.to_timedelta(held["duration_minutes"], unit="min")
    following = held.groupby("clinician_id")["starts_at"].shift(-1)
    assert not (end > following).any()


def test_visits_lie_in_opening_hours(bookings: pd.DataFrame) -> None:
    start = bookings["local"].dt.hour * 60 + bookings["local"].dt.minute
    assert start.min() >= 9 * 60
    assert (start + bookings["duration_minutes"]).max() <= 20 * 60
    assert (start % 30 == 0).all()


def test_spring_festival_is_closed(bookings: pd.DataFrame) -> None:
    festival = {
        day
        for day, name in chinese_calendar.constants.holidays.items()
        if name == chinese_calendar.Holiday.spring_festival.value
    }
    days = set(bookings["local"].dt.date)
    covered = {day for day in festival if min(days) < day < max(days)}
    assert len(covered) > 20
    assert not covered & days


def test_weekends_are_busier(bookings: pd.DataFrame) -> None:
    visits = bookings[bookings["status"] == "completed"]["local"].dt.weekday.value_counts()
    assert min(visits[5], visits[6]) > 1.15 * visits[[0, 1, 2, 3, 4]].mean()


def test_todays_schedule_is_filled_and_spread(bookings: pd.DataFrame) -> None:
    today = bookings[bookings["local"].dt.date == NOW.date()]
    assert len(today) >= 15
    assert today["local"].dt.hour.nunique() >= 6
    assert (today["status"] == "booked").sum() >= 10


# Base rates and truth


def test_base_rates_are_those_of_a_private_practice(bookings: pd.DataFrame) -> None:
    ended = bookings[bookings["status"].isin(ENDED)]
    share = ended["status"].value_counts(normalize=True)
    assert 0.08 <= share["no_show"] / (share["no_show"] + share["completed"]) <= 0.12
    assert 0.02 <= share["cancelled_late"] <= 0.04
    assert 0.10 <= share["cancelled_early"] + share["rescheduled"] <= 0.17
    lead = (bookings["starts_at"] - bookings["booked_at"]).dt.total_seconds() / 86400
    assert lead.quantile(0.03) < 1
    assert 30 < lead.quantile(0.98) < 66


def test_plans_messages_and_loss_are_those_of_the_field(practice: SimulatedPractice) -> None:
    """Bands around knowledge of the field: acceptance 46 %, confirmed 44 %, referred 40 %, lost 17 % a year."""
    tables, now = practice.tables, pd.Timestamp(NOW)
    items = tables["plan_items"]
    items = items[items["proposed_at"] < now - pd.Timedelta(days=180)]
    accepted = items.groupby("plan_id")["accepted_at"].count() > 0
    assert 0.40 < accepted.mean() < 0.56
    done = items[items["plan_id"].isin(accepted.index[accepted])].groupby("plan_id")["completed_at"]
    assert 0.65 < (done.count() == done.size()).mean() < 0.88
    reminders = tables["communications"].query("purpose == 'reminder'")
    assert 0.38 < (reminders["outcome"] == "confirmed").mean() < 0.55
    patients = tables["patients"].drop_duplicates("patient_id")
    assert 0.36 < (patients["source_channel"] == "referral").mean() < 0.44
    visits = tables["appointments"].query("status == 'completed'")

    def active(at: pd.Timestamp) -> set[str]:
        age = at - visits["starts_at"]
        return set(visits.loc[(age >= pd.Timedelta(0)) & (age < pd.Timedelta(days=548)), "patient_id"])

    before = active(now - pd.Timedelta(days=365))
    assert 0.12 < len(before - active(now)) / len(before) < 0.22
    ledger = tables["ledger"].groupby("account")["amount_cents"].sum()
    assert 0.05 < ledger["consumables"] / ledger["revenue"] < 0.07
    assert 0.065 < ledger["lab"] / ledger["revenue"] < 0.085


@pytest.mark.parametrize("moment", ["at_booking", "evening_before"])
@pytest.mark.parametrize(("kind", "positive"), [("no_show", ["no_show"]), ("missed", ["no_show", "cancelled_late"])])
def test_truth_is_calibrated(bookings: pd.DataFrame, moment: str, kind: str, positive: list[str]) -> None:
    name = f"{kind}_probability_{moment}"
    kept = bookings[bookings["status"].isin(STANDING_LATE)].dropna(subset=[name])
    truth, seen = kept[name], kept["status"].isin(positive)
    for part in (truth >= 0, truth > 0.2, truth < 0.08, kept["is_new_patient"]):
        spread = np.sqrt((truth[part] * (1 - truth[part])).sum())
        assert abs(seen[part].sum() - truth[part].sum()) < 4 * spread  # sixteen comparisons


def test_a_regression_recovers_the_truth(bookings: pd.DataFrame) -> None:
    rates = BaseRates().attendance
    kept = bookings[bookings["status"].isin(["completed", "no_show"])]
    kept = kept[kept["reminder_state"] != ""]
    age = kept["local"].dt.year - kept["birth_year"]
    lead_days = (kept["starts_at"] - kept["booked_at"]).dt.total_seconds() / 86400
    facts = {
        "personal": (kept["personal_effect"], 1.0),
        "lead": (np.log1p(lead_days), rates.lead_slope),
        "young": (age.between(16, 30), rates.young),
        "senior": (age >= 60, rates.senior),
        "early": (kept["local"].dt.hour < 10, rates.early),
        "monday": (kept["local"].dt.weekday == 0, rates.monday),
        "new": (kept["is_new_patient"], rates.new),
        "unanswered": (kept["reminder_state"] == "unanswered", rates.unanswered),
        "confirmed": (kept["reminder_state"] == "confirmed", rates.confirmed),
    }
    x = np.column_stack([np.ones(len(kept)), *[values for values, _ in facts.values()]]).astype(float)
    y = (kept["status"] == "no_show").to_numpy()
    fitted = LogisticRegression(C=1e8, fit_intercept=False, max_iter=2000).fit(x, y)
    p = fitted.predict_proba(x)[:, 1]
    errors = np.sqrt(np.diag(np.linalg.inv((x * (p * (1 - p))[:, None]).T @ x)))
    truth = np.array([rates.base, *[effect for _, effect in facts.values()]])
    off = np.abs(fitted.coef_[0] - truth) / errors
    assert (off < 4).all(), dict(zip(["base", *facts], off.round(1), strict=True))
    assert fitted.coef_[0][2] > 4 * errors[2]


# Presets


def test_insurance_makes_a_rush_at_the_years_end() -> None:
    opening = draw_up_opening(date(2025, 1, 1), 730)
    usual, insured = (seasons(rates_of(name).demand, opening)["adult"] for name in ("default", "insured"))
    months = np.array([opening.months[min(week * 7 + 3, 729)] for week in range(len(usual))])
    assert (insured > usual)[months >= 11].all()
    assert (insured == usual)[months < 11].all()


def test_members_leave_less() -> None:
    rates = BaseRates().demand
    referred, member = np.array([False, True, False, True]), np.array([False, False, True, True])
    found = stay_factor(rates, referred, member)
    assert found.tolist() == [
        1.0,
        rates.referred_factor,
        rates.member_factor,
        rates.referred_factor * rates.member_factor,
    ]
    assert rates.member_factor < 1


def test_dirt_leaves_days_alone_merges_households_and_gives_reasons(tmp_path: Path) -> None:
    clean, dirty = (simulate(small(preset=preset)) for preset in ("default", "dirty"))
    bookings = dirty.tables["appointments"]
    days = bookings[~bookings["is_start_time_known"]]
    assert 0.01 < len(days) / len(bookings) < 0.04
    assert (days["starts_at"].dt.tz_convert(ZONE).dt.hour == 0).all()
    assert (days["starts_at"] > days["booked_at"]).all()
    assert days["status"].nunique() > 1
    homes = [set(made.tables["patients"]["household_id"]) for made in (clean, dirty)]
    assert homes[1] < homes[0]
    write_export(dirty, tmp_path)
    written = pd.read_csv(tmp_path / "appointments.csv", dtype=str, keep_default_na=False)
    cancelled = written["status"].str.startswith("cancelled")
    assert (written.loc[~cancelled, "cancellation_reason"] == "").all()
    assert written.loc[cancelled, "cancellation_reason"].nunique() > 4
    assert "cancellation_reason" not in (tmp_path / "mapping.toml").read_text(encoding="utf-8")


# Plans


@pytest.mark.parametrize("changes", [{}, {"clinics": 2}, {"patients": 10, "years": 1}, {"time_zone": "Europe/Paris"}])
def test_other_sizes_work(changes: dict[str, object]) -> None:
    plan = small(**changes)
    practice = simulate(plan)
    patients, bookings = practice.tables["patients"], practice.tables["appointments"]
    patients = patients.drop_duplicates("patient_id")
    assert len(patients) == plan.patients
    assert patients["home_clinic_id"].nunique() == plan.clinics
    home = bookings["patient_id"].map(patients.set_index("patient_id")["home_clinic_id"])
    assert (bookings["clinic_id"] == home).all()
    posts = bookings["clinician_id"].str.rstrip("abcdefgh")
    assert 4 <= posts.groupby(bookings["clinic_id"]).nunique().max() <= 6


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"patients": 0}, "patients"),
        ({"patients": 2.5}, "patients"),
        ({"clinics": 0}, "clinics"),
        ({"patients": 2, "clinics": 3}, "at least clinics"),
        ({"years": -1}, "years"),
        ({"seed": -1}, "seed"),
        ({"now": NOW.replace(tzinfo=None)}, "time zone"),
        ({"time_zone": "Mars/Olympus"}, "time_zone"),
        ({"language": "fr"}, "language"),
    ],
)
def test_an_impossible_plan_is_refused(changes: dict[str, object], named: str) -> None:
    with pytest.raises(SettingsError, match=named):
        small(**changes)


# Speed


def test_speed_benchmark_prints_its_figures(repository: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.simulate_speed", "--quick"],
        cwd=repository, capture_output=True, text=True, check=True,
    )  # fmt: skip
    metrics = json.loads(done.stdout.splitlines()[-1])["metrics"]
    assert {"cpu_s_per_million", "peak_gb_1_clinic", "memory_ratio_to_one_clinic"} <= set(metrics)
