"""In care or not, and how fast a patient comes back: what the history tells, week by week.

A forward filter over the latent state of each patient: gone, in care, or in
care with a new booking to come after a missed one; times a grid of personal
rates; times whether messages put the patient off. It takes the same weekly
steps as the simulation, and weighs each by the chance of what was then seen.

Two things are left out: the due dates of the run-up before the exported years
say nothing of the personal rate, and the chance to be missing does not depend
on the rate.
"""

from __future__ import annotations

import numpy as np

from features.simulator.care_model import Model
from features.simulator.care_state import COMES_AGAIN, GONE, IN_CARE, Care
from features.simulator.contacts import FATIGUE_DAYS
from features.simulator.demand import ALONG_DAYS
from features.simulator.hazards import WINDOW_WEEKS, stale_factor
from features.simulator.observed import CHANNELS, Observed
from features.simulator.observed_events import Event
from features.simulator.one_clinic import RUN_UP
from features.simulator.opening import DAY
from features.simulator.panel import NEVER, WEEK

LEARNED_AFTER = 30 * DAY  # a move or a death is known by then
# Without a record of it, a plan rarely ends at a visit but by the patient's leaving.
UNRECORDED_END = 0.02
BOOKED_WITHIN = 75 * DAY  # a visit's booking is at most this old


def follow(seen: Observed, model: Model, log_rate: np.ndarray, put_off: np.ndarray) -> Care:
    """Run the filter from minute 0 to the as-of.

    Parameters
    ----------
    seen : Observed
        What the practice saw.
    model : Model
        What is known of all patients.
    log_rate, put_off : ndarray
        As in `Care.begin`.
    """
    care = Care.begin(log_rate, put_off)
    _Follower(seen, model, care).run()
    return care


class _Follower:
    """The filter while it runs."""

    def __init__(self, seen: Observed, model: Model, care: Care) -> None:
        self.seen, self.model, self.care = seen, model, care
        self.homes: dict[int, list[int]] = {}
        for person, home in enumerate(seen.household.tolist()):
            self.homes.setdefault(home, []).append(person)
        self.along = {(e.person, e.minute) for e in seen.events if e.kind == "booking" and e.facts["how"] == "along"}
        self.chance = np.zeros_like(care.intends)
        self.table: dict[tuple[int, int, int], np.ndarray] = {}

    def run(self) -> None:
        """Take every week's step, then what was seen in it."""
        take = {
            "due": self.set_due,
            "visit": self.visit,
            "gap": self.gap,
            "booking": self.book,
            "message": self.message,
            "arm": self.hold_out,
            "opt_out": self.opt_out,
        }
        events = iter(self.seen.events)
        event = next(events, None)
        for start in range(0, self.seen.now + 1, WEEK):
            self.week(start)
            while event is not None and event.minute < start + WEEK:
                take[event.kind](event)
                event = next(events, None)
        self.last_days()

    def week(self, minute: int) -> None:
        care, seen = self.care, self.seen
        care.weight /= np.maximum(care.weight.max(axis=(1, 2, 3), keepdims=True), 1e-300)
        self.forget_gaps(minute)
        leaves = self.model.leaving(seen, minute, departs=minute > seen.now - LEARNED_AFTER)
        leaves = np.where(care.due == NEVER, 0.0, leaves)[:, None, None, None]
        gone = care.weight[:, 1:] * leaves
        care.weight[:, 1:] -= gone
        care.weight[:, GONE] += gone.sum(axis=1)
        self.chance = care.booking(self.model, seen, minute)
        if minute < RUN_UP * DAY:
            care.was_asked[:] = False
            return
        is_due = (care.due != NEVER)[:, None, None, None]
        care.weight[:, 1:] *= np.where(is_due, 1 - self.model.hurts(), 1.0)
        care.was_asked = ~care.is_booked
        care.weight[:, IN_CARE] *= np.where(care.was_asked[:, None, None], 1 - self.chance, 1.0)

    def forget_gaps(self, minute: int) -> None:
        """Drop, by and by, the hope for a new booking after a missed one."""
        care = self.care
        now, before = (self.hope(minute), self.hope(minute - WEEK))
        care.weight[:, COMES_AGAIN] *= (now / np.where(before > 0, before, 1.0))[:, None, None]

    def hope(self, minute: int) -> np.ndarray:
        """Share of new bookings after a gap that were still to come."""
        days = (minute - np.minimum(self.care.gap_at, minute)) / DAY
        hope: np.ndarray = np.clip(1 - days / self.care.gap_span, 0.0, 1.0)
        return hope

    def set_due(self, event: Event) -> None:
        """A new round begins with the end of a visit."""
        care, n = self.care, event.person
        if event.minute - care.booked_at[n] > BOOKED_WITHIN:
            care.weight[n, GONE] = 0.0  # the booking was made in the run-up, by one in care
        care.due[n], care.is_booked[n], care.was_asked[n] = event.facts["due"], False, False
        care.weight[n, IN_CARE] += care.weight[n, COMES_AGAIN]
        care.weight[n, COMES_AGAIN] = 0.0
        care.turns[n], care.is_random[n] = 0, False

    def visit(self, event: Event) -> None:
        """Some leave after a visit; who went on with the treatment did not."""
        demand, n, weight = self.model.rates.demand, event.person, self.care.weight
        leaves = demand.leaves_after_first if event.facts["is_first"] else demand.leaves_after_visit
        leaves *= self.seen.stays[n]
        went_on = event.facts["went_on"]
        gone = weight[n, 1:].sum(axis=0) * leaves * (went_on is not True)
        weight[n, 1:] *= (1 - leaves) * (UNRECORDED_END if went_on is False else 1.0)
        weight[n, GONE] += gone

    def gap(self, event: Event) -> None:
        """After a missed or cancelled booking most make a new one, and some leave."""
        care, n, demand = self.care, event.person, self.model.rates.demand
        leaves = demand.leaves_after_miss * self.seen.stays[n]
        if event.facts["is_no_show"]:
            gone = care.weight[n, 1:] * leaves
            care.weight[n, 1:] -= gone
            care.weight[n, GONE] += gone.sum(axis=0)
        again = care.weight[n, IN_CARE] * demand.rebooks
        care.weight[n, IN_CARE] -= again
        care.weight[n, COMES_AGAIN] += again
        is_recall = event.facts["is_recall"]
        is_pain = not is_recall and event.facts["lead"] < 1.5
        care.gap_at[n], care.gap_span[n] = event.minute, 1.0 if is_pain else 20.0
        care.gap_lead[n], care.gap_is_recall[n] = event.facts["lead"], is_recall
        if is_recall:
            care.is_booked[n] = False

    def book(self, event: Event) -> None:
        """A booking shows that the patient is in care, unless it was only moved."""
        care, n, how, is_recall = self.care, event.person, event.facts["how"], event.facts["is_recall"]
        care.booked_at[n] = event.minute
        if how == "move":
            return
        weight = care.weight[n]
        if how == "own":
            self.book_unasked(event)
        elif how == "along":
            weight[IN_CARE] *= self.model.rates.demand.family_books_along
            weight[COMES_AGAIN] = 0.0
        weight[GONE] = 0.0
        if is_recall:
            weight[IN_CARE] += weight[COMES_AGAIN]
            weight[COMES_AGAIN] = 0.0
            care.is_booked[n] = True

    def book_unasked(self, event: Event) -> None:
        """Weigh the two reasons of a booking: a missed one before, or the patient's own decision."""
        care, n, is_recall = self.care, event.person, event.facts["is_recall"]
        weight = care.weight[n]
        days = (event.minute - care.gap_at[n]) / DAY
        again = np.zeros_like(weight[0])
        if days < care.gap_span[n] + 2 and care.gap_is_recall[n] == is_recall:
            # The hope was last brought up to date at the start of the week.
            hope = self.hope(event.minute // WEEK * WEEK)[n]
            again = weight[COMES_AGAIN] / max(hope, 0.05) / care.gap_span[n]
        if is_recall:
            self.others_come_along(event, again)
            left = 1 - self.chance[n] if care.was_asked[n] else 1.0
            decided = weight[IN_CARE] * self.chance[n] / left / 7
        else:
            decided = weight[IN_CARE] * (self.model.hurts() / 7 if again.any() else 1.0)
        if (again.sum() + decided.sum()) > 0:
            weight[IN_CARE] = again + decided
            if is_recall or again.any():
                weight[COMES_AGAIN] = 0.0

    def others_come_along(self, event: Event, again: np.ndarray) -> None:
        """Who is due and in care but did not come along decided against it."""
        care, demand = self.care, self.model.rates.demand
        if again.any():
            return
        for n in self.homes[int(self.seen.household[event.person])]:
            is_free = not care.is_booked[n] and care.due[n] < event.minute + ALONG_DAYS * DAY
            if n != event.person and is_free and (n, event.minute) not in self.along:
                care.weight[n, IN_CARE] *= 1 - demand.family_books_along

    def message(self, event: Event) -> None:
        """Weigh the answer to a recall message, or its lack."""
        care, n, contacts = self.care, event.person, self.model.rates.contacts
        weight = care.weight[n]
        weight[COMES_AGAIN] = 0.0  # nobody is written to who is about to book
        recent = sum(sent > event.minute - FATIGUE_DAYS * DAY for sent in care.recalled[n])
        age = self.model.year(event.minute) - int(self.seen.birth_year[n])
        books = self.answers(n, age, recent)[:, :, CHANNELS.index(event.facts["channel"])]
        books = books * stale_factor(contacts, event.minute - int(care.due[n]))
        if event.facts["is_answered"]:
            weight[IN_CARE] = weight[IN_CARE] * books + weight[GONE] * contacts.recall_books_lapsed
            weight[GONE] = 0.0
        else:
            weight[IN_CARE] *= 1 - books
            weight[GONE] *= 1 - contacts.recall_books_lapsed
        care.recalled[n].append(event.minute)
        care.annoyed_until[n] = event.minute + WINDOW_WEEKS * WEEK
        self._count_turn(event, event.facts["is_random"])

    def answers(self, person: int, age: int, recent: int) -> np.ndarray:
        """As `Model.answers`; kept while the grid is the same for all."""
        group = int(age >= 35) + int(age >= 60)
        shared = self.care.log_rate.strides[0] == 0
        key = (-1 if shared else person, group, recent)
        if key not in self.table:
            self.table[key] = self.model.answers(self.care.log_rate[person], age, recent)
        return self.table[key]

    def hold_out(self, event: Event) -> None:
        """A draw into the hold-out is a turn without a message."""
        if event.facts["is_held"]:
            self.care.weight[event.person, COMES_AGAIN] = 0.0
            self._count_turn(event, True)

    def _count_turn(self, event: Event, is_random: bool) -> None:
        care, n = self.care, event.person
        care.turns[n] += 1
        care.turn_at[n] = event.minute
        care.is_random[n] = is_random

    def opt_out(self, event: Event) -> None:
        """Those whom messages put off opt out five times as often."""
        self.care.weight[event.person, :, :, 1] *= 5

    def last_days(self) -> None:
        """Take back what the rest of the last week would have told, and keep what it may still bring."""
        care, now = self.care, self.seen.now
        gone_by = (now % WEEK) / WEEK
        asked = (care.was_asked & ~care.is_booked)[:, None, None]
        so_far = 1 - self.chance * gone_by
        care.weight[:, IN_CARE] *= np.where(asked, so_far / (1 - self.chance), 1.0)
        care.intends = np.where(asked, self.chance * (1 - gone_by) / so_far, 0.0)
        now_hope, before = self.hope(now), self.hope(now // WEEK * WEEK)
        care.weight[:, COMES_AGAIN] *= (now_hope / np.where(before > 0, before, 1.0))[:, None, None]
