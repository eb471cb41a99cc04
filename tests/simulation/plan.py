"""What one seed is about: which faults it has and how many, drawn from the seed alone.

Every kind of fault is left out of some seeds (swarm testing): what one fault hides, a seed without it shows.
"""

from __future__ import annotations

from random import Random

import msgspec

MS = 1_000_000
S = 1_000 * MS

RECV_WINDOW_MS = 5_000
ANSWER_TIMEOUT_NS = 4 * S
READ_TIMEOUT_NS = S
FIRST_FAULT_NS = 3 * S
"""Until when the engine is left to come up; the network is bad from the beginning."""


class Plan(msgspec.Struct, frozen=True):
    """Shares are per message or per action; counts are for the whole active phase. The last few are limits of the
    engine's own, so low on some seeds that they are reached."""

    seed: int
    active_ns: int
    action_gap_ns: int
    latency_ns: int
    request_lost: float
    answer_lost: float
    late_arrival: float
    unknown_answer: float
    query_lag_ns: int
    stream_lost: float
    stream_doubled: float
    stream_reordered: float
    stream_breaks: int
    outages: int
    slow_sync: float
    hung_sync: float
    write_errors: int
    sync_errors: int
    full_disks: int
    kills: int
    disk_step_kills: int
    power_cuts: int
    clean_stops: int
    clock_jumps: int
    clock_jump_ns: int
    feed_silences: int
    foreign_orders: float
    foreign_cancels: float
    kill_switches: int
    rule_changes: int
    small_balances: bool
    repeats: float
    market_ticks: int
    held: float
    groups: float
    amends_prices: bool
    final_orders_kept: int
    tidy_interval_events: int
    batch_limit: int
    unrecorded_limit: int
    renewals: float
    approvals: float
    voids: float


def plan_of(seed: int) -> Plan:
    """The plan of a seed."""
    random = Random(f"veloz simulation plan {seed}")

    def share(most: float) -> float:
        return random.uniform(0, most) if random.random() < 0.5 else 0.0

    def count(most: int) -> int:
        return random.randint(1, most) if random.random() < 0.35 else 0

    return Plan(
        seed=seed,
        active_ns=random.randint(12, 26) * S,
        action_gap_ns=random.choice((40, 90, 150, 300)) * MS,
        latency_ns=random.choice((1, 8, 40, 120)) * MS,
        request_lost=share(0.12),
        answer_lost=share(0.12),
        late_arrival=share(0.10),
        unknown_answer=share(0.12),
        query_lag_ns=random.choice((0, 0, 50, 400)) * MS,
        stream_lost=share(0.15),
        stream_doubled=share(0.2),
        stream_reordered=share(0.3),
        stream_breaks=count(3),
        outages=count(2),
        slow_sync=share(0.3),
        hung_sync=share(0.02),
        write_errors=count(2),
        sync_errors=count(1),
        full_disks=count(1),
        kills=count(3),
        disk_step_kills=count(2),
        power_cuts=count(2),
        clean_stops=count(1),
        clock_jumps=count(2),
        clock_jump_ns=random.choice((1, 10, 60, 3_600)) * S,
        feed_silences=count(2),
        foreign_orders=share(0.08),
        foreign_cancels=share(0.08),
        kill_switches=count(2),
        rule_changes=count(2),
        small_balances=random.random() < 0.3,
        repeats=share(0.15),
        market_ticks=random.choice((1, 3, 8)),
        held=share(0.3),
        groups=share(0.4),
        amends_prices=random.random() < 0.3,
        final_orders_kept=random.choice((5_000, 5_000, 6)),
        tidy_interval_events=random.choice((512, 512, 16)),
        batch_limit=random.choice((256, 256, 2)),
        unrecorded_limit=random.choice((1_000, 1_000, 1)),
        renewals=share(0.3),
        approvals=share(0.5),
        voids=share(0.15),
    )
