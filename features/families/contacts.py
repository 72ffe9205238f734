"""Messages and calls: how often, by which way, and what came back."""

from __future__ import annotations

from features.as_of import days_since, known_fact, within
from features.spec import Family, Feature

WINDOWS = (30, 90, 365)
CHANNELS = ("wechat", "sms", "phone")

# A call that nobody took ends at a moment too, and some practices note what came of it without the moment.
ANSWERED = """(replied_us IS NOT NULL AND coalesce(outcome, 'other') <> 'no_answer'
    OR coalesce(outcome, 'other') IN ('confirmed', 'declined', 'opted_out'))"""

# Marked once per message, not once per message and moment: the join multiplies rows.
MARKED = f"""
SELECT patient_no, known_us, until_us, sent_us,
  CASE WHEN direction = 'in' THEN sent_us WHEN {ANSWERED} THEN coalesce(replied_us, sent_us) END AS heard_us,
  coalesce(direction = 'in', false) AS is_in,
  coalesce(direction = 'out', false) AS is_out,
  -- A reminder asks for a confirmation, all else for an answer; marketing asks for nothing.
  coalesce(direction = 'out' AND purpose <> 'marketing', false) AS is_asking,
  coalesce(direction = 'out' AND purpose = 'marketing', false) AS is_marketing,
  coalesce(direction = 'out' AND purpose = 'recall', false) AS is_recall,
  coalesce(direction = 'out' AND purpose = 'reminder', false) AS is_reminder,
  {ANSWERED} AS is_answered,
  coalesce(outcome = 'confirmed', false) AS is_confirmed,
  coalesce(outcome IN ('declined', 'opted_out'), false) AS is_refused,
  {", ".join(f"coalesce(channel = '{channel}', false) AS is_{channel}" for channel in CHANNELS)}
FROM communications_facts"""

MESSAGES = f"""
SELECT s.patient_no, s.as_of_us,
  {", ".join(f"count_if(c.is_out AND {within('c.sent_us', days)}) AS sent_{days}" for days in WINDOWS)},
  count_if(c.is_recall AND {within("c.sent_us", 365)}) AS recall_365,
  count_if(c.is_recall) AS recall,
  count_if(c.is_recall AND c.is_answered) AS recall_answered,
  count_if(c.is_reminder) AS reminders,
  count_if(c.is_reminder AND c.is_confirmed) AS reminders_confirmed,
  count_if(c.is_marketing AND {within("c.sent_us", 365)}) AS marketing_365,
  {
    ", ".join(
        f"count_if(c.is_out AND c.is_{channel} AND {within('c.sent_us', 365)}) AS {channel}_365, "
        f"count_if(c.is_asking AND c.is_{channel}) AS {channel}_asked, "
        f"count_if(c.is_asking AND c.is_{channel} AND c.is_answered) AS {channel}_answered"
        for channel in CHANNELS
    )
},
  count_if(c.is_asking) AS asked,
  count_if(c.is_asking AND c.is_answered) AS answered,
  count_if(c.is_refused) AS refused,
  count_if(c.is_in AND {within("c.sent_us", 365)}) AS inbound_365,
  max(c.sent_us) FILTER (c.is_out) AS last_sent_us,
  max(c.sent_us) FILTER (c.is_recall) AS last_recall_us,
  max(c.sent_us) FILTER (c.is_in) AS last_inbound_us,
  max(c.heard_us) AS last_reply_us
FROM spine s
JOIN marked c ON c.patient_no = s.patient_no AND {known_fact("c")}
GROUP BY s.patient_no, s.as_of_us"""

# What was asked since the patient was last heard of.
UNANSWERED = f"""
SELECT s.patient_no, s.as_of_us, count(*) AS unanswered,
  count_if(c.is_recall) AS recalls_unanswered
FROM spine s
JOIN messages m ON m.patient_no = s.patient_no AND m.as_of_us = s.as_of_us
JOIN marked c ON c.patient_no = s.patient_no AND {known_fact("c")}
WHERE c.is_asking AND NOT c.is_answered AND c.sent_us > coalesce(m.last_reply_us, 0)
GROUP BY s.patient_no, s.as_of_us"""

CONSENTS = f"""
SELECT s.patient_no, s.as_of_us, p.is_contact_allowed, {", ".join(f"p.is_{channel}_allowed" for channel in CHANNELS)}
FROM spine s JOIN patients_facts p ON p.patient_no = s.patient_no AND {known_fact("p")}"""


def _sent(days: int) -> Feature:
    return Feature(
        f"messages_sent_count_{days}d",
        f"coalesce(sent_{days}, 0)",
        f"Messages and calls to the patient in {days} days [messages]",
        "contacts",
    )


def _by(channel: str) -> tuple[Feature, ...]:
    return (
        Feature(
            f"messages_{channel}_count_365d",
            f"coalesce({channel}_365, 0)",
            f"Sent or called by {channel} in 365 days [messages]",
            "contacts",
        ),
        Feature(
            f"messages_{channel}_answered_share_ever",
            f"{channel}_answered / nullif({channel}_asked, 0)",
            f"Answered, of those by {channel} that asked for an answer [share]",
            "contacts",
        ),
        Feature(
            f"is_{channel}_allowed",
            f"is_{channel}_allowed",
            f"Consents to being reached by {channel} [flag]",
            "contacts",
        ),
    )


CONTACTS = Family(
    name="contacts",
    description="Messages and calls: how often, by which way, and what came back",
    reads={
        "communications": ("direction", "channel", "purpose", "outcome", "sent_at", "replied_at"),
        "patients": ("is_contact_allowed", *(f"is_{channel}_allowed" for channel in CHANNELS)),
    },
    parts={"marked": MARKED, "messages": MESSAGES, "silence": UNANSWERED, "consents": CONSENTS},
    joined=("messages", "silence", "consents"),
    features=(
        *(_sent(days) for days in WINDOWS),
        Feature(
            "messages_recall_count_365d", "coalesce(recall_365, 0)", "About a recall, 365 days [messages]", "contacts"
        ),
        Feature(
            "messages_marketing_count_365d",
            "coalesce(marketing_365, 0)",
            "Marketing in 365 days [messages]",
            "contacts",
        ),
        *(feature for channel in CHANNELS for feature in _by(channel)),
        Feature("is_contact_allowed", "is_contact_allowed", "Consents to being reached at all [flag]", "contacts"),
        Feature(
            "messages_answered_share_ever",
            "answered / nullif(asked, 0)",
            "Answered, of those that asked for an answer [share]",
            "contacts",
        ),
        Feature(
            "messages_recall_answered_share_ever",
            "recall_answered / nullif(recall, 0)",
            "Answered, of those about a recall [share]",
            "contacts",
        ),
        Feature(
            "reminders_confirmed_share_ever",
            "reminders_confirmed / nullif(reminders, 0)",
            "Confirmed, of reminders [share]",
            "contacts",
        ),
        Feature(
            "messages_unanswered_row_count_ever",
            "coalesce(unanswered, 0)",
            "Unanswered one after the other since the patient was last heard of [messages]",
            "contacts",
            1,
        ),
        Feature(
            "messages_recall_unanswered_row_count_ever",
            "coalesce(recalls_unanswered, 0)",
            "Of those: about a recall [messages]",
            "contacts",
            1,
        ),
        Feature(
            "messages_refused_count_ever",
            "coalesce(refused, 0)",
            "Answered by a refusal or opt-out [messages]",
            "contacts",
        ),
        Feature(
            "messages_inbound_count_365d",
            "coalesce(inbound_365, 0)",
            "From the patient, 365 days [messages]",
            "contacts",
        ),
        Feature(
            "days_since_message_sent", days_since("last_sent_us"), "Since the last message or call [days]", "contacts"
        ),
        Feature(
            "days_since_message_recall",
            days_since("last_recall_us"),
            "Since the last about a recall [days]",
            "contacts",
        ),
        Feature(
            "days_since_message_reply",
            days_since("last_reply_us"),
            "Since the patient was last heard of [days]",
            "contacts",
        ),
        Feature(
            "days_since_message_inbound",
            days_since("last_inbound_us"),
            "Since the patient last wrote or called first [days]",
            "contacts",
        ),
        Feature(
            "messages_fatigue_ratio_365d",
            "coalesce(sent_30, 0) / (1 + coalesce(sent_365, 0) / 12e0)",
            "Sent in 30 days over a usual month's [ratio]",
            "contacts",
        ),
    ),
)
