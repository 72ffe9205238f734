"""Our own Prometheus metrics, by route template: no path, no id, no name ever becomes a label."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from serving.schedule import Publication

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
NO_ROUTE = "(none)"  # refused by the guard, or there is no such route
SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0)


class Metrics:
    """Counts and times of one worker."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._requests = Histogram(
            "revisit_request_seconds",
            "Time to answer, by route template.",
            ("method", "route", "status"),
            buckets=SECONDS,
            registry=self._registry,
        )
        self._feedback = Counter(
            "revisit_card_feedback",
            "What became of cards of decision support.",
            ("service", "outcome"),
            registry=self._registry,
        )
        self._published = Gauge(
            "revisit_publication_as_of_seconds",
            "Moment up to which the published records were known, as Unix time.",
            registry=self._registry,
        )
        self._bookings = Gauge("revisit_publication_bookings", "Bookings published.", registry=self._registry)

    def note(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count one answer.

        Parameters
        ----------
        method : str
            As asked; one that HTTP does not know counts as OTHER.
        route : str
            Template such as ``/api/v1/schedule``.
        status : int
            HTTP status.
        seconds : float
            From the request's arrival to the answer's end.
        """
        self._requests.labels(method if method in METHODS else "OTHER", route, str(status)).observe(seconds)

    def note_feedback(self, service: str, outcome: str) -> None:
        """Count what became of one card; both are names of ours."""
        self._feedback.labels(service, outcome).inc()

    def text(self, publication: Publication | None) -> bytes:
        """Return all metrics as Prometheus reads them."""
        if publication is not None:
            self._published.set(publication.as_of.timestamp())
            self._bookings.set(publication.booking_count)
        return generate_latest(self._registry)
