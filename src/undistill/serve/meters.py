"""What Prometheus is told at /metrics."""

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


class Meters:
    """Counters of one service, apart from those of others in the process.

    Args:
        places: how many places of the queue are taken, whenever it is asked.
    """

    def __init__(self, places: Callable[[], int]) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter("undistill_requests", "Requests answered.", ["path", "status"], registry=self.registry)
        self.refusals = Counter(
            "undistill_refusals", "Requests refused, by reason.", ["reason"], registry=self.registry
        )
        self.gone = Counter("undistill_gone", "Clients that went away before the answer.", registry=self.registry)
        self.bytes = Counter("undistill_bytes", "Bytes of images, in and out.", ["way"], registry=self.registry)
        self.seconds = Histogram(
            "undistill_seconds",
            "Seconds that a request waited for a thread, and that the thread worked.",
            ["part"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.batches = Histogram(
            "undistill_batch_images",
            "Images that ran through a head together.",
            buckets=(1, 2, 4, 8),
            registry=self.registry,
        )
        queue = Gauge("undistill_queue", "Places of the queue that are taken.", registry=self.registry)
        queue.set_function(places)

    def text(self) -> tuple[bytes, str]:
        """All of them, and their media type."""
        return generate_latest(self.registry), CONTENT_TYPE_LATEST
