"""The service's figures in the form that Prometheus reads.

Labels are states, statuses, models that the operator offers and our own words for failures:
there are few of each, and none of them is a person's, a task's or a prompt's.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import accumulate
from typing import Final, get_args

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)

from evolink_mcp.api.figures import BOUNDS, Durations, Figures
from evolink_mcp.jobs.job import State
from evolink_mcp.service.traffic import Traffic

TEXT: Final = "text/plain; version=0.0.4; charset=utf-8"


def written(metrics: Iterable[Metric]) -> bytes:
    """Write figures as text."""
    registry = CollectorRegistry()
    registry.register(_Collected(list(metrics)))
    return generate_latest(registry)


def of_traffic(traffic: Traffic) -> list[Metric]:
    """Describe what comes to us."""
    flying = GaugeMetricFamily("evolink_mcp_requests_in_flight", "HTTP requests being answered.")
    flying.add_metric([], traffic.in_flight)
    answered = {str(status): count for status, count in traffic.answered.items()}
    return [
        flying,
        _counted("responses", "HTTP requests answered, by status.", by="status", counts=answered),
    ]


def of_jobs(states: Mapping[State, int], *, spent: float) -> list[Metric]:
    """Describe what was bought; every state is there, also one that no job is in."""
    credit = GaugeMetricFamily(
        "evolink_mcp_credits_spent_today", "EvoLink credits spent or reserved today."
    )
    credit.add_metric([], spent)
    jobs = GaugeMetricFamily("evolink_mcp_jobs", "Jobs on record, by state.", labels=["state"])
    for state in get_args(State):
        jobs.add_metric([state], states.get(state, 0))
    return [credit, jobs]


def of_evolink(figures: Figures) -> list[Metric]:
    """Describe what passes between us and EvoLink."""
    readings = CounterMetricFamily(
        "evolink_mcp_task_readings", "Requests to EvoLink for a task's status."
    )
    readings.add_metric([], figures.readings)
    times = HistogramMetricFamily(
        "evolink_mcp_time_to_picture_seconds",
        "Seconds from a request to its saved pictures, by model.",
        labels=["model"],
    )
    for model, durations in sorted(figures.to_picture.items()):
        times.add_metric([model], buckets=_buckets(durations), sum_value=durations.seconds)
    text = "Requests to EvoLink that failed, by kind of failure."
    return [
        readings,
        times,
        _counted("evolink_errors", text, by="code", counts=figures.errors),
    ]


def _counted(name: str, text: str, *, by: str, counts: Mapping[str, int]) -> Metric:
    family = CounterMetricFamily(f"evolink_mcp_{name}", text, labels=[by])
    for label, count in sorted(counts.items()):
        family.add_metric([label], count)
    return family


def _buckets(durations: Durations) -> list[tuple[str, float]]:
    bounds = [*map(str, BOUNDS), "+Inf"]
    return [*zip(bounds, map(float, accumulate(durations.counts)), strict=True)]


@dataclass(frozen=True, eq=False)  # the library keeps collectors in a dict
class _Collected:
    """Figures as the library takes them."""

    metrics: list[Metric]

    def collect(self) -> list[Metric]:
        return self.metrics
