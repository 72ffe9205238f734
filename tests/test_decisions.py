"""Bands, actions and reasons: pure functions."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.decisions import ACTIONS, band, expected_no_shows, suggested_action
from serving.explanation import Reason
from serving.i18n import language
from serving.names import (
    ACTION_LABELS,
    BAND_LABELS,
    ROLE_LABELS,
    SERVICE_LINES,
    STATUSES,
    initials,
    service_name,
)
from serving.reasons import MAX_SHOWN, SENTENCES, chosen, sentence
from serving.schedule import Booking, Score

EN, ZH = language("en"), language("zh")
NOW = datetime(2026, 11, 23, tzinfo=UTC)
BOOKING = Booking("a1", "east", "p1", NOW, NOW)
SCORE = Score("a1", "no_show_evening", 0.4, "no_show_evening", "1", NOW, NOW)


@given(st.floats(0, 1), st.floats(0, 1))
def test_more_risk_never_means_less_help(one: float, other: float) -> None:
    order = ["none", "send_reminder", "confirm_by_phone"]
    low, high = sorted((one, other))
    actions = [suggested_action(BOOKING, SCORE, band(p, 0.15, 0.3)) for p in (low, high)]
    assert order.index(actions[0]) <= order.index(actions[1])


def test_every_action_is_an_offer_of_help() -> None:
    asked = {"confirm_by_phone", "send_reminder", "offer_next_visit", "explain_plan", "check_contact", "offer_family"}
    assert set(ACTIONS) == asked | {"none", "no_score"}
    assert set(ACTION_LABELS) == set(ACTIONS)


@pytest.mark.parametrize("status", sorted(set(STATUSES) - {"booked"}))
def test_a_booking_that_is_over_needs_nothing(status: str) -> None:
    over = replace(BOOKING, status=status)
    assert suggested_action(over, SCORE, "high") == "none"
    assert expected_no_shows([(over, SCORE)]) == 0


def test_a_booking_without_score_says_so() -> None:
    assert suggested_action(BOOKING, None, None) == "no_score"
    assert expected_no_shows([(BOOKING, SCORE), (BOOKING, None)]) == pytest.approx(0.4)


@pytest.mark.parametrize(
    ("code", "values", "english", "chinese"),
    [
        ("lead_time", {"days": 38}, "Booked 38 days ahead", "提前 38 天预约"),
        ("lead_time", {"days": 1}, "Booked 1 day ahead", "提前 1 天预约"),
        ("lead_time", {"days": 0}, "Booked for the same day", "当天预约"),
        ("missed_visits", {"missed": 2, "past": 5}, "Missed 2 of the last 5 visits", "5 次就诊中爽约 2 次"),
        ("missed_visits", {"missed": 1, "past": 1}, "Missed the only earlier visit", "此前唯一一次就诊爽约"),
        ("attendance", {"attended": 7, "past": 7}, "Came to all 7 earlier visits", "此前 7 次就诊全部到店"),
        ("attendance", {"attended": 6, "past": 7}, "Came to 6 of 7 earlier visits", "此前 7 次就诊到店 6 次"),
        ("short_record", {"past": 1}, "1 earlier visit so far", "此前共就诊 1 次"),
        ("new_patient", {}, "No earlier visit here", "首次来本店就诊"),
        ("last_visit", {"days": 210}, "Last visit 210 days ago", "上次就诊在 210 天前"),
        ("same_day_visits", {"bookings": 2}, "2 other bookings that day", "当天另有 2 个预约"),
        (
            "reminder",
            {"reminders": 2, "confirmed": 0},
            "2 reminders sent, not confirmed",
            "已发送 2 次提醒，未确认",
        ),
        ("reminder", {"reminders": 2, "confirmed": 1}, "Confirmed after a reminder", "提醒后已确认"),
        ("time_slot", {"weekday": 0, "hour": 9}, "Monday, 09:00 slot", "星期一 09:00 时段"),
        ("time_slot", {"weekday": 6, "hour": -1}, "Visit on a Sunday", "星期日就诊"),
        ("booking_pattern", {"open_bookings": 3, "hour": 23}, "3 open bookings", "有 3 个未完成预约"),
        (
            "booking_pattern",
            {"open_bookings": 1, "hour": 23},
            "Booking made around 23:00",
            "约在 23:00 下的预约",
        ),
        (
            "clinic_level",
            {"percent": 12},
            "12% of this clinic's recent bookings were missed",
            "本门诊近期爽约率 12%",
        ),
        ("service", {"service_line": "root_canal"}, "Visit for root canal", "就诊项目：根管治疗"),
    ],
)
def test_a_reason_reads_like_this(code: str, values: dict[str, int | str], english: str, chinese: str) -> None:
    reason = Reason(code, 1, 0.5, values)
    assert sentence(reason, EN) == english
    assert sentence(reason, ZH) == chinese


NUMBERS = (
    "days",
    "missed",
    "past",
    "attended",
    "bookings",
    "reminders",
    "confirmed",
    "open_bookings",
    "percent",
)


@given(
    st.sampled_from(sorted(SENTENCES)),
    st.fixed_dictionaries(
        dict.fromkeys(NUMBERS, st.integers(0, 400))
        | {
            "weekday": st.integers(0, 6),
            "hour": st.integers(-1, 23),
            "service_line": st.sampled_from([*SERVICE_LINES, ""]),
        }
    ),
)
def test_no_reason_judges_or_leaks_its_template(code: str, values: dict[str, int | str]) -> None:
    reason = Reason(code, 1, 0.5, values)
    english, chinese = sentence(reason, EN), sentence(reason, ZH)
    assert not re.search(r"because|cause|due to|therefore|%\(", english, re.IGNORECASE)
    assert not re.search(r"因为|导致|由于|所以|%\(", chinese)
    assert not re.search(r"[A-Za-z]{2,}", chinese)
    assert not re.search(r"\b(age|old|young|sex|male|female|man|woman)\b", english, re.IGNORECASE)


def test_the_strongest_reasons_are_chosen_and_raising_ones_lead_a_flag() -> None:
    reasons = [
        Reason("attendance", -1, -0.9),
        Reason("lead_time", 1, 0.2),
        Reason("service", 1, 0.049),
        Reason("reminder", 1, 0.3),
        Reason("age", 1, 3.0),
        Reason("new_patient", 1, 0.1),
    ]
    assert [r.code for r in chosen(reasons, "high")] == ["reminder", "lead_time", "new_patient"]
    assert [r.code for r in chosen(reasons, "low")] == ["attendance", "reminder", "lead_time"]
    assert len(chosen(reasons, "medium")) == MAX_SHOWN


def test_every_name_is_known_in_chinese() -> None:
    for names in (SERVICE_LINES, STATUSES, ACTION_LABELS, BAND_LABELS, ROLE_LABELS):
        for name in names.values():
            assert ZH.text(name) != name


def test_names_that_nobody_foresaw() -> None:
    assert service_name("laser_treatment", EN) == "Laser treatment"
    assert service_name(None, ZH) == "就诊"
    assert initials("  ") == "–"
    assert initials("欧阳娜娜") == "欧某"
