"""Features of treatment plans: what was agreed to, how far it is, who proposed it.

A plan is looked at as long as something that was agreed to is open. Its
features come from all items of the practice, as known at the moment: patients
cannot be divided into buckets here.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import duckdb

from features.as_of import DAY_US, days_since, known_fact
from features.families.plans import LONG
from features.patients import attach_patients, family_rows, tables_read
from features.settings import Settings
from features.spec import Family, Feature

# What was agreed to at least this long ago shows whether a clinician's treatments of a line get done in that time.
SETTLED_DAYS = 180
# Items at the practice's own share that each clinician and line is imagined to have had before.
IMAGINED_ITEMS = 10

ACCEPTED = "i.accepted_us IS NOT NULL"
DONE = f"({ACCEPTED} AND i.completed_us IS NOT NULL)"
STARTED = f"({ACCEPTED} AND i.completed_us IS NULL AND i.declined_us IS NULL)"
PENDING = "(i.accepted_us IS NULL AND i.completed_us IS NULL AND i.declined_us IS NULL)"
# An item of no plan is a plan of its own.
PLAN_ID = "coalesce(i.plan_id, 'item ' || i.plan_item_id)"
LINE, WHO = "coalesce(i.service_line, '')", "coalesce(i.clinician_id, '')"
OWN = f"i.patient_no = s.patient_no AND {PLAN_ID} = s.plan_id AND {known_fact('i')}"
KEYS = "patient_no, plan_id, as_of_us"
S_KEYS = "s.patient_no, s.plan_id, s.as_of_us"

ITEMS = f"""
SELECT {S_KEYS},
  count(*) AS items,
  count(*) FILTER ({ACCEPTED}) AS accepted,
  count(*) FILTER ({DONE}) AS done,
  count(*) FILTER ({STARTED}) AS started,
  count(*) FILTER ({PENDING}) AS pending,
  count(*) FILTER (i.declined_us IS NOT NULL) AS declined,
  count(*) FILTER ({STARTED} AND i.scheduled_us IS NOT NULL) AS scheduled,
  count(*) FILTER ({STARTED} AND i.urgency IN ('soon', 'urgent')) AS pressing,
  count(*) FILTER ({STARTED} AND i.urgency = 'urgent') AS urgent,
  count(*) FILTER ({STARTED} AND {LONG}) AS long_items,
  sum(i.fee_cents) FILTER ({ACCEPTED}) AS accepted_cents,
  sum(i.fee_cents) FILTER ({STARTED}) AS started_cents,
  min(i.proposed_us) AS first_proposed_us,
  min(i.accepted_us) AS first_accepted_us,
  max(i.completed_us) FILTER ({DONE}) AS last_done_us
FROM plan_spine s JOIN plan_items_facts i ON {OWN}
GROUP BY {S_KEYS}"""

# What was agreed to by clinician and line, the most frequent first; fees, then names, decide between equals.
LINES = f"""
SELECT {KEYS}, who, line, line_items,
  row_number() OVER (PARTITION BY {KEYS} ORDER BY pair_items DESC, cents DESC, who, line) AS place
FROM (SELECT {S_KEYS}, {WHO} AS who, {LINE} AS line, count(*) AS pair_items, sum(coalesce(i.fee_cents, 0)) AS cents,
        sum(count(*)) OVER (PARTITION BY {S_KEYS}, {LINE}) AS line_items
      FROM plan_spine s JOIN plan_items_facts i ON {OWN}
      WHERE {ACCEPTED} GROUP BY {S_KEYS}, {WHO}, {LINE}) AS pairs"""

LARGEST = f"SELECT {KEYS}, max(line_items) AS largest_line, count(DISTINCT line) AS lines FROM lines GROUP BY {KEYS}"

SETTLED = f"""
SELECT s.as_of_us, {WHO} AS who, {LINE} AS line, count(*) AS settled,
  count(*) FILTER (i.completed_us <= i.accepted_us + {SETTLED_DAYS * DAY_US}) AS settled_done
FROM (SELECT DISTINCT as_of_us FROM plan_spine) AS s JOIN plan_items_facts i ON {known_fact("i")}
WHERE i.accepted_us <= s.as_of_us - {SETTLED_DAYS * DAY_US}
GROUP BY s.as_of_us, {WHO}, {LINE}"""

EVERYWHERE = """
SELECT as_of_us, sum(settled_done) / CAST(sum(settled) AS DOUBLE) AS usual FROM settled GROUP BY as_of_us"""

MAIN = f"""
SELECT {", ".join(f"l.{key}" for key in KEYS.split(", "))}, (coalesce(p.settled_done, 0) + {IMAGINED_ITEMS} * e.usual)
  / (coalesce(p.settled, 0) + {IMAGINED_ITEMS}) AS past_share
FROM lines l
JOIN everywhere e ON e.as_of_us = l.as_of_us
LEFT JOIN settled p ON p.as_of_us = l.as_of_us AND p.who = l.who AND p.line = l.line
WHERE l.place = 1"""

PARTS = {"items": ITEMS, "lines": LINES, "largest": LARGEST, "settled": SETTLED, "everywhere": EVERYWHERE, "main": MAIN}
GROUP = "treatment"

FEATURES = (
    Feature("this_plan_proposed_count_ever", "items", "Proposed in this plan [items]", GROUP),
    Feature("this_plan_accepted_count_ever", "accepted", "Agreed to in this plan [items]", GROUP),
    Feature("this_plan_completed_count_ever", "done", "Done, of what was agreed to in this plan [items]", GROUP),
    Feature("this_plan_open_count_ever", "started", "Agreed to in this plan and not done yet [items]", GROUP),
    Feature("this_plan_pending_count_ever", "pending", "Proposed in this plan and not decided [items]", GROUP),
    Feature("this_plan_declined_count_ever", "declined", "Declined or dropped in this plan [items]", GROUP),
    Feature("this_plan_completed_share_ever", "done / accepted", "Done, of what was agreed to here [share]", GROUP),
    Feature(
        "this_plan_accepted_sum_ever_cents", "coalesce(accepted_cents, 0)", "Fees of what was agreed to [cents]", GROUP
    ),
    Feature("this_plan_open_sum_ever_cents", "coalesce(started_cents, 0)", "Fees of what is to be done [cents]", GROUP),
    Feature(
        "days_since_this_plan_proposed", days_since("first_proposed_us"), "Since this plan's first item [days]", GROUP
    ),
    Feature(
        "days_since_this_plan_accepted",
        days_since("first_accepted_us"),
        "Since the first agreement in this plan [days]",
        GROUP,
    ),
    Feature(
        "days_since_this_plan_progress",
        days_since("coalesce(last_done_us, first_accepted_us)"),
        "Since this plan's last item done, or since the first agreement [days]",
        GROUP,
    ),
    Feature(
        "this_plan_pace_ratio_ever",
        "done * 30e0 * 86400e6 / nullif(s.as_of_us - first_accepted_us, 0)",
        "Done per 30 days since the first agreement in this plan [items]",
        GROUP,
    ),
    Feature(
        "this_plan_scheduled_share_ever", "scheduled / started", "In a booking, of what is to be done [share]", GROUP
    ),
    Feature("this_plan_pressing_share_ever", "pressing / started", "Pressing, of what is to be done [share]", GROUP),
    Feature("has_urgent_item_open", "urgent > 0", "Something urgent is to be done [flag]", GROUP),
    Feature("has_long_item_open", "long_items > 0", "Something orthodontic or an implant is to be done [flag]", GROUP),
    Feature("this_plan_lines_count_ever", "lines", "Service lines of what was agreed to [lines]", GROUP),
    Feature(
        "this_plan_line_share_ever", "largest_line / accepted", "Largest service line, of what was agreed to [share]",
        GROUP,
    ),
    Feature(
        "clinician_line_completed_share_ever",
        "past_share",
        f"Done within {SETTLED_DAYS} days, of what was agreed to before with this plan's main clinician and line, "
        "drawn to the practice's share [share]",
        GROUP,
    ),
)  # fmt: skip

PLAN_GRAIN = Family(
    name="plan_grain",
    description="Treatment plans: what was agreed to, how far it is, who proposed it",
    reads={
        "plan_items": (
            "plan_item_id",
            "plan_id",
            "clinician_id",
            "service_line",
            "urgency",
            "fee_cents",
            "proposed_at",
            "accepted_at",
            "scheduled_at",
            "completed_at",
            "declined_at",
        )
    },
    parts=PARTS,
    joined=("items", "largest", "main"),
    features=FEATURES,
    spine="plan_spine",
    ids=("plan_id", "patient_id"),
    keys=("patient_no", "plan_id"),
)


TABLES_READ = tables_read([PLAN_GRAIN])


def attach_plans(
    con: duckdb.DuckDBPyConnection, settings: Settings, moments: Sequence[datetime], condition: str = "true"
) -> None:
    """Make ``plan_spine`` and ``promised``: plans with something agreed to and open, and those items.

    Parameters
    ----------
    con : duckdb.DuckDBPyConnection
        With `TABLES_READ` attached.
    settings : Settings
        Of the practice.
    moments : sequence of datetime
        Aware; one row per moment and plan.
    condition : str
        SQL condition on ``patient_id``: whose plans.
    """
    attach_patients(con, settings, [PLAN_GRAIN], moments)
    con.execute(
        f"""CREATE OR REPLACE TEMP TABLE promised AS
        SELECT {PLAN_ID} AS plan_id, s.patient_id, s.patient_no, s.as_of, s.as_of_us, i.plan_item_id
        FROM spine s JOIN plan_items_facts i ON i.patient_no = s.patient_no AND {known_fact("i")}
        WHERE {STARTED} AND ({condition.replace("patient_id", "s.patient_id")})"""
    )
    con.execute(
        """CREATE OR REPLACE TEMP TABLE plan_spine AS
        SELECT DISTINCT plan_id, patient_id, patient_no, as_of, as_of_us FROM promised"""
    )


def plan_rows(con: duckdb.DuckDBPyConnection) -> duckdb.DuckDBPyRelation:
    """One row per row of ``plan_spine``: plan_id, patient_id, as_of and `FEATURES`, as doubles."""
    return family_rows(con, PLAN_GRAIN)
