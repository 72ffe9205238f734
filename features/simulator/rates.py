"""Base rates of the simulated practice, each with its source."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

WhoGains = Literal["high_risk_gains", "middle_gains", "equal"]


@dataclass(frozen=True)
class AttendanceRates:
    """Whether a booking is kept; effects are on the logit of a no-show.

    Attributes
    ----------
    base : float
        Set so that 8-12 % of the bookings that were not given up early are
        missed without a word; private practices record 4-12 % (Henry Schein
        One benchmark; PLOS ONE 2019, BMC HSR 2023 for the upper part).
    personal_sd : float
        Spread of the lasting personal effect; past misses are the strongest
        predictor in every review (Entropy 2020), here only through it.
    lead_slope : float
        Per log(1 + days between booking and visit); lead time is the second
        strongest predictor (UMC Utrecht and NZ ophthalmology models).
    young, senior, early, monday, new : float
        16-30 years; 60 years and more; start before 10:00; Monday; no completed
        visit yet. Directions from the same reviews, sizes assumed.
    unanswered, confirmed : float
        Reminder sent without and with the patient's confirmation. Together
        close to the odds ratio 1/1.76 of Lin and Wu, PLOS ONE 2014.
    early_exit : float
        Largest probability to cancel or move at least 24 hours ahead, reached
        for long leads; 12 % cancellations in the Henry Schein One benchmark.
    early_exit_days : float
        Lead in days at which 63 % of `early_exit` is reached (assumed).
    early_exit_personal : float
        Log-linear share of the personal effect in early exits (assumed).
    rescheduled_share : float
        Share of early exits that move to another day (assumed).
    late_exit : float
        Probability to cancel inside the last 24 hours; 81 % of dentists blame
        these for empty chairs (ADA polls), size assumed.
    late_exit_personal : float
        Log-linear share of the personal effect in late cancellations (assumed).
    late_exit_confirmed, late_exit_short : float
        Factors on `late_exit` after a confirmation, and for leads below a day.
    evening_hour : int
        Local hour of the evening-before decision.
    """

    base: float = -3.40
    personal_sd: float = 1.0
    lead_slope: float = 0.45
    young: float = 0.40
    senior: float = -0.35
    early: float = 0.35
    monday: float = 0.25
    new: float = 0.35
    unanswered: float = -0.20
    confirmed: float = -1.00
    early_exit: float = 0.19
    early_exit_days: float = 6.0
    early_exit_personal: float = 0.30
    rescheduled_share: float = 0.55
    late_exit: float = 0.037
    late_exit_personal: float = 0.40
    late_exit_confirmed: float = 0.5
    late_exit_short: float = 0.4
    evening_hour: int = 21


@dataclass(frozen=True)
class ContactRates:
    """Reminders and recall messages.

    Attributes
    ----------
    reminded : float
        Share of bookings made two or more days ahead that get a reminder.
    two_days_before : float
        Share of those reminders sent two days before instead of one.
    channels : mapping of str to float
        Share by channel; WeChat leads in Chinese clinics (assumed).
    confirm_logit : mapping of str to float
        Logit of a confirmation by channel; 44 % are confirmed on average,
        87 % in the top decile (Henry Schein One benchmark).
    recall_after_days : int
        Days after the due date at which the first recall message goes out.
    recall_every_days, recall_at_most : int
        Days between recall messages; messages per due date.
    recall_share : float
        Share of overdue patients the desk gets round to (assumed).
    recall_books : mapping of str to float
        Probability that a message on the due date makes a patient in care book; with those who
        left among the overdue, 8-15 % of those contacted (trade blogs, weak).
    recall_books_lapsed : float
        The same for one who had left (assumed).
    who_gains : str
        Whom a message moves most: those least likely to come by themselves
        (``high_risk_gains``), those in between (``middle_gains``), or all alike (``equal``).
        Ascarza (JMR 2018) found that the highest risk is not the best target.
    age_matters : float
        Size of the age's interaction with the channel, 1 as assumed here, 0 for none.
    stale : float
        Factor on the response per week past due; lists of the long overdue answer
        far less than fresh recalls (direction and size assumed).
    fatigue : float
        Factor on the response per recall message of the last 180 days (assumed).
    negative_share, annoyed : float
        Share of people whom a message puts off, and the factor on their weekly
        chance to book for eight weeks after it (assumed).
    randomised_share : float
        Share of the recall rounds the desk gets round to that are drawn into arms
        instead of the usual policy.
    randomised_weeks : tuple of (int, int)
        Weeks past due, evenly, of the first draw. With the second one they cover the
        year that a clinic's recall list holds (prototype, retention.md 5.1: eligible = overdue).
    redrawn_after_days, drawn_at_most : int
        Days until a patient of the randomised stratum who is still overdue is drawn
        again, beyond the window and in another quarter; draws per due date.
    declines, opts_out : float
        Probability of a refusal, and of asking for no more messages (assumed).
    phone_unanswered : float
        Share of calls nobody takes (assumed).
    """

    reminded: float = 0.75
    two_days_before: float = 0.30
    channels: Mapping[str, float] = field(default_factory=lambda: {"wechat": 0.60, "sms": 0.25, "phone": 0.15})
    confirm_logit: Mapping[str, float] = field(default_factory=lambda: {"wechat": 0.10, "sms": -1.10, "phone": 0.80})
    recall_after_days: int = 21
    recall_every_days: int = 45
    recall_at_most: int = 3
    recall_share: float = 0.7
    recall_books: Mapping[str, float] = field(default_factory=lambda: {"wechat": 0.22, "sms": 0.14, "phone": 0.40})
    recall_books_lapsed: float = 0.01
    who_gains: WhoGains = "middle_gains"
    age_matters: float = 1.0
    stale: float = 0.95
    fatigue: float = 0.8
    negative_share: float = 0.05
    annoyed: float = 0.4
    randomised_share: float = 0.3
    randomised_weeks: tuple[int, int] = (1, 26)
    redrawn_after_days: int = 182
    drawn_at_most: int = 2
    declines: float = 0.05
    opts_out: float = 0.01
    phone_unanswered: float = 0.35


@dataclass(frozen=True)
class DemandRates:
    """Why and when people come, and when they stop.

    Attributes
    ----------
    joined_before : float
        Share of patients who joined before the exported years (assumed).
    interval_months : mapping of int to float
        Prescribed recall interval; NICE CG19 allows 3 to 24 months by risk,
        half a year is the usual default (AAPD).
    adherence_sd, adherence_household : float
        Spread of the personal log delay after the due date, and the share of
        its variance that a household has in common (prototype, retention.md 5.1).
    due_ahead_weeks : int
        Weeks before the due date from which on people book unasked (assumed).
    due_hazard : tuple of (int, float)
        Weeks since then and the weekly chance to book unasked from there on; the
        mean person comes about two weeks late, one long overdue hardly ever.
    lapse_per_year : float
        First lapse process, any time: about 10 % a year after the first year
        (specialist maintenance cohort 1983-89).
    moves_per_year, dies_per_year : float
        Moves away, and deaths of people under 65; ten times as many after (assumed).
    leaves_after_first, leaves_after_visit, leaves_after_miss : float
        Second lapse process, at a visit: 32-42 % are lost in year one (same
        cohort; Korea 2003-05), so most of it at the first visit.
    referred_factor : float
        Factor on both lapse processes for referred patients (assumed).
    member_factor : float
        The same for those with a membership plan; practices measure members as
        kept better (field.md, seed 2: 会员留存), size assumed.
    family_books_along : float
        Probability that a household member who is due comes along (assumed).
    school_holiday, before_festival, after_festival, december : float
        Factors on the weekly chance to book: children in July, August and the
        winter holiday; everyone two weeks before and after the Spring Festival;
        December. Directions from field.md (Meituan 2026, Beijing 2023), sizes assumed.
    year_end : float
        Factor on the weekly chance to book in November and December where insurance
        benefits lapse at the end of the year; 1 in a Chinese clinic paid in cash.
    emergencies_per_year : float
        Toothaches per active patient (assumed).
    starts_emergency : float
        Share of first contacts that are emergencies (assumed).
    plan_after_check, plan_after_emergency : float
        Probability that a check-up, or an emergency, leads to treatment (assumed).
    rebooks : float
        Probability to book again after a missed or cancelled visit.
    requested : float
        Share of bookings for which the patient asks for the clinician (60 %
        and more is the seed's warning level for key-person risk).
    contact_allowed : float
        Share of patients who allow recall messages (assumed).
    """

    joined_before: float = 0.38
    interval_months: Mapping[int, float] = field(default_factory=lambda: {3: 0.14, 4: 0.15, 6: 0.48, 9: 0.10, 12: 0.13})
    adherence_sd: float = 0.85
    adherence_household: float = 0.5
    due_ahead_weeks: int = 3
    due_hazard: tuple[tuple[int, float], ...] = ((0, 0.06), (2, 0.32), (6, 0.10), (16, 0.05), (40, 0.02))
    lapse_per_year: float = 0.07
    moves_per_year: float = 0.006
    dies_per_year: float = 0.002
    leaves_after_first: float = 0.15
    leaves_after_visit: float = 0.009
    leaves_after_miss: float = 0.06
    referred_factor: float = 0.7
    member_factor: float = 0.75
    family_books_along: float = 0.5
    school_holiday: float = 1.6
    before_festival: float = 1.3
    after_festival: float = 0.55
    december: float = 1.1
    year_end: float = 1.0
    emergencies_per_year: float = 0.20
    starts_emergency: float = 0.22
    plan_after_check: float = 0.88
    plan_after_emergency: float = 0.85
    rebooks: float = 0.72
    requested: float = 0.50
    contact_allowed: float = 0.93


@dataclass(frozen=True)
class EventRates:
    """What happens to the practice once in a while.

    Attributes
    ----------
    clinician_stays_years : float
        Mean years until a clinician leaves (assumed).
    departure_factor, departure_weeks : float, int
        Factor on the weekly lapse chance of the panel of a clinician who left,
        and for how long (prototype, retention.md 5.1).
    notice_days : int
        Days before the last day on which a departure is known; longer than
        bookings reach.
    price_rise, price_rise_at : float
        One rise of all prices, at this share of the exported years (assumed).
    price_factor, price_weeks : float, int
        Lapse factor per unit of price sensitivity, and for how long.
    """

    clinician_stays_years: float = 5.0
    departure_factor: float = 10.0
    departure_weeks: int = 8
    notice_days: int = 100
    price_rise: float = 0.15
    price_rise_at: float = 0.6
    price_factor: float = 3.0
    price_weeks: int = 12


@dataclass(frozen=True)
class PlanRates:
    """Treatment plans and money.

    Attributes
    ----------
    accepts, accepts_urgent, accepts_per_log_yuan : float
        Logit of accepting a routine plan of 1,000 yuan; more if urgent; less by
        value. 46 % are accepted on average, 83 % in the top decile (Henry
        Schein One benchmark); set so that about half are.
    accepts_price : float
        Per unit of price sensitivity (assumed).
    pain_gone : float
        Probability to drop the rest once the pain is gone (assumed).
    drop_recorded : float
        Share of dropped items that the desk writes down as such (assumed).
    discounts : mapping of str to float
        Discount by membership.
    pays_at_once, refunded : float
        Share of charges paid on the day; share refunded (assumed).
    """

    accepts: float = 0.3
    accepts_urgent: float = 1.0
    accepts_per_log_yuan: float = -0.35
    accepts_price: float = -0.5
    pain_gone: float = 0.12
    drop_recorded: float = 0.5
    discounts: Mapping[str, float] = field(default_factory=lambda: {"": 0.0, "silver": 0.05, "family": 0.08})
    pays_at_once: float = 0.9
    refunded: float = 0.004


@dataclass(frozen=True)
class BaseRates:
    """All base rates of one simulated practice."""

    attendance: AttendanceRates = AttendanceRates()
    contacts: ContactRates = ContactRates()
    demand: DemandRates = DemandRates()
    events: EventRates = EventRates()
    plans: PlanRates = PlanRates()
