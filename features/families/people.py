"""Who the patient is to the practice: for how long, with whom, sent by whom, with which clinician."""

from __future__ import annotations

from features.as_of import days_since, known_fact, within
from features.families.attendance import AHEAD, KEPT, WAS_MISSED
from features.spec import Family, Feature

YEAR_ZERO_DAYS = 719_528  # from the first day of year 0 to 1970-01-01, by the Gregorian calendar
YEAR_DAYS = 365.2425
REFERRED = ("referral", "referred", "friend", "family", "介绍", "转介绍", "朋友介绍", "老带新")
VALUED = ("vip", "贵宾")  # part of a tag; a practice's own words are translated by its mapping

SELF = f"""
SELECT s.patient_no, s.as_of_us, s.patient_id, p.household_id, p.birth_year, p.sex, p.membership, p.tags,
  p.referred_by_id, p.source_channel,
  CASE WHEN p.first_seen_day <= s.as_of_day THEN p.first_seen_day END AS first_seen_day
FROM spine s JOIN patients_facts p ON p.patient_no = s.patient_no AND {known_fact("p")}"""

# The row of a patient tells the first visit; one that was made before it, only when they were recorded.
FIRST_STATE = """
SELECT s.patient_no, s.as_of_us, min(p.known_us) AS first_known_us
FROM spine s JOIN patients_facts p ON p.patient_no = s.patient_no AND p.known_us < s.as_of_us
GROUP BY s.patient_no, s.as_of_us"""

MEMBERS = f"""
SELECT s.patient_no, s.as_of_us, o.patient_no AS member_no
FROM self s
JOIN patients_facts o ON o.household_id = s.household_id AND o.patient_no <> s.patient_no
  AND o.departure IS NULL AND {known_fact("o")}"""

HOUSEHOLD = "SELECT patient_no, as_of_us, count(*) AS others FROM members GROUP BY patient_no, as_of_us"

HOUSEHOLD_VISITS = f"""
SELECT s.patient_no, s.as_of_us,
  count(*) FILTER ({KEPT} AND {within("a.starts_us", 365)}) AS kept_365,
  count(*) FILTER ({KEPT}) AS kept,
  count(*) FILTER ({WAS_MISSED}) AS missed,
  max(a.starts_us) FILTER ({KEPT}) AS last_kept_us,
  count(*) FILTER ({AHEAD}) AS ahead
FROM members s JOIN appointments_facts a ON a.patient_no = s.member_no AND {known_fact("a")}
GROUP BY s.patient_no, s.as_of_us"""

SENT = f"""
SELECT s.patient_no, s.as_of_us, count(*) AS sent
FROM spine s JOIN patients_facts o ON o.referred_by_id = s.patient_id AND {known_fact("o")}
GROUP BY s.patient_no, s.as_of_us"""

BY_CLINICIAN = f"""
SELECT s.patient_no, s.as_of_us, a.clinician_id, count(*) AS visits, max(a.starts_us) AS last_us,
  count(*) FILTER (a.is_requested_clinician) AS requested,
  count(*) FILTER (a.is_requested_clinician IS NOT NULL) AS asked
FROM spine s JOIN appointments_facts a ON a.patient_no = s.patient_no AND {known_fact("a")}
WHERE {KEPT}
GROUP BY s.patient_no, s.as_of_us, a.clinician_id"""

RANKED = """
SELECT patient_no, as_of_us, clinician_id, visits,
  count(*) OVER (PARTITION BY patient_no, as_of_us) AS clinicians,
  sum(visits) OVER (PARTITION BY patient_no, as_of_us) AS all_visits,
  row_number() OVER (PARTITION BY patient_no, as_of_us ORDER BY visits DESC, last_us DESC, clinician_id) AS place
FROM by_clinician WHERE clinician_id IS NOT NULL"""

MAIN = f"""
SELECT s.patient_no, s.as_of_us, r.visits AS main_visits, r.all_visits, r.clinicians, c.left_day
FROM spine s
JOIN ranked r ON r.patient_no = s.patient_no AND r.as_of_us = s.as_of_us AND r.place = 1
LEFT JOIN clinicians_facts c ON c.clinician_id = r.clinician_id AND {known_fact("c")}"""

WISHES = """
SELECT patient_no, as_of_us, sum(requested) AS requested, sum(asked) AS asked
FROM by_clinician GROUP BY patient_no, as_of_us"""

TAG_COUNT = """CASE WHEN coalesce(trim(tags), '') = '' THEN 0
    ELSE length(tags) - length(replace(tags, ';', '')) + 1 END"""

PEOPLE = Family(
    name="people",
    description="Who the patient is to the practice: for how long, with whom, sent by whom, with which clinician",
    reads={
        "patients": (
            "household_id",
            "birth_year",
            "sex",
            "membership",
            "tags",
            "departure",
            "referred_by_id",
            "source_channel",
            "first_seen_on",
        ),
        "appointments": ("status", "starts_at", "clinician_id", "is_requested_clinician"),
        "clinicians": ("clinician_id", "left_on"),
    },
    parts={
        "self": SELF,
        "first_state": FIRST_STATE,
        "members": MEMBERS,
        "household": HOUSEHOLD,
        "household_visits": HOUSEHOLD_VISITS,
        "sent": SENT,
        "by_clinician": BY_CLINICIAN,
        "ranked": RANKED,
        "main": MAIN,
        "wishes": WISHES,
    },
    joined=("self", "first_state", "household", "household_visits", "sent", "main", "wishes"),
    features=(
        Feature(
            "years_since_birth",
            f"(s.as_of_day + {YEAR_ZERO_DAYS}) / {YEAR_DAYS} - birth_year - 0.5",
            "Age, from the middle of the year of birth [years]",
            None,
        ),
        Feature(
            "is_female",
            "CASE WHEN sex IN ('female', 'male') THEN sex = 'female' END",
            "Recorded as female [flag]",
            None,
        ),
        Feature(
            "days_since_first_seen",
            f"coalesce(s.as_of_day - first_seen_day, {days_since('first_known_us')})",
            "Since the first visit or, if it is not recorded, since the patient was [days]",
            "tenure",
        ),
        Feature(
            "household_members_count_ever",
            "CASE WHEN household_id IS NOT NULL THEN 1 + coalesce(others, 0) END",
            "People of the household who are patients, this one included [people]",
            "household",
        ),
        Feature(
            "household_visits_kept_count_365d",
            "coalesce(kept_365, 0)",
            "Visits that others of the household kept in 365 days [visits]",
            "household",
        ),
        Feature(
            "household_visits_missed_share_ever",
            "missed / nullif(kept + missed, 0)",
            "Missed, of the visits of others of the household that came due [share]",
            "household",
        ),
        Feature(
            "days_since_household_visit",
            days_since("last_kept_us"),
            "Since another of the household last kept a visit [days]",
            "household",
        ),
        Feature(
            "has_household_booking_ahead",
            "coalesce(ahead, 0) > 0",
            "Another of the household has a booking ahead [flag]",
            "household",
        ),
        Feature(
            "is_referred",
            f"""referred_by_id IS NOT NULL
                OR coalesce(lower(source_channel) IN ({", ".join(f"'{word}'" for word in REFERRED)}), false)""",
            "Sent by another patient [flag]",
            "referral",
        ),
        Feature("patients_sent_count_ever", "coalesce(sent, 0)", "Patients sent by this one [people]", "referral"),
        Feature("is_member", "coalesce(trim(membership), '') <> ''", "Has a membership [flag]", "membership"),
        Feature("tags_set_count_ever", TAG_COUNT, "Tags on the patient's card [tags]", "membership"),
        Feature(
            "has_vip_tag",
            " OR ".join(f"coalesce(lower(tags) LIKE '%{word}%', false)" for word in VALUED),
            "Tagged as one to be looked after [flag]",
            "membership",
        ),
        Feature(
            "clinicians_seen_count_ever", "coalesce(clinicians, 0)", "Clinicians seen so far [people]", "clinician"
        ),
        Feature(
            "clinician_main_share_ever",
            "main_visits / all_visits",
            "With the clinician seen most, of the visits kept [share]",
            "clinician",
        ),
        Feature(
            "has_lost_clinician",
            "coalesce(left_day < s.as_of_day, false)",
            "The clinician seen most has left, as far as known [flag]",
            "clinician",
            1,
        ),
        Feature(
            "days_since_clinician_left",
            "s.as_of_day - left_day",
            "Since the last day of the clinician seen most; negative while it is ahead [days]",
            "clinician",
        ),
        Feature(
            "visits_requested_share_ever",
            "requested / nullif(asked, 0)",
            "With a clinician whom the patient had asked for, of the visits kept [share]",
            "clinician",
        ),
    ),
)
