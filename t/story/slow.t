#!/usr/bin/env python3
"""A backend that becomes ten times slower falls to its proportional share, and regains it when it is well again."""

import asyncio

import story
from story import Backend, Load, Nginx


async def tell(tap):
    one, two = await Backend(tap, "one").start(), await Backend(tap, "two").start()
    one.delay = two.delay = 0.02
    nginx = await Nginx(
        tap,
        {
            "version": 1,
            "upstreams": [{"name": "u", "nodes": [one.node, two.node]}],
            "routes": [{"name": "all", "paths": ["/*"], "upstream": "u"}],
        },
    ).start()

    async def seconds():
        """Sum and count of the times to the response header by port, as the gateway measured them."""
        found = await nginx.metrics()
        part = lambda end: {
            int(dict(labels)["peer"].rpartition(":")[2]): value
            for labels, value in found[f"gateway_upstream_duration_seconds_{end}"].items()
            if "peer" in dict(labels) and ":" in dict(labels)["peer"]
        }
        return part("sum"), part("count")

    async def share(wait):
        """The second one's share over `wait` seconds, and what DOCUMENT.md's formula makes of the latencies."""
        (sum0, count0) = await seconds()
        await asyncio.sleep(wait)
        (sum1, count1) = await seconds()
        picks = {port: count1[port] - count0[port] for port in (one.port, two.port)}
        ms = {port: 1000 * (sum1[port] - sum0[port]) / max(1, picks[port]) for port in picks}
        weight = {port: 1000 / (ms[port] + 1) for port in ms}
        return (
            picks[two.port] / sum(picks.values()),
            weight[two.port] / sum(weight.values()),
            f"{sum(picks.values()):.0f} picks at {ms[one.port]:.1f} and {ms[two.port]:.1f} ms",
        )

    load = Load(nginx.port, 32).start()
    await asyncio.sleep(1.5)
    got, _, note = await share(2)
    tap.ok(0.42 < got < 0.58, "equal ones share alike", f"share {got:.3f}, {note}")

    two.delay = 0.2
    await asyncio.sleep(7)
    # The last three of the ten seconds. The average has come to within exp(-7/3) = 10 % of the new latency, and at some
    # hundred picks a second the slow one is picked a hundred times or more: 10 % of noise. 40 % is the margin for both.
    got, expected, note = await share(3)
    tap.ok(abs(got / expected - 1) < 0.4, "ten times slower: its proportional share within 10 s",
           f"share {got:.4f}, by the formula {expected:.4f}, {note}")

    two.delay = 0.02
    await asyncio.sleep(7)
    got, _, note = await share(3)
    tap.ok(0.35 < got < 0.6, "healed: its share is back within 10 s", f"share {got:.3f}, {note}")
    await load.stop()
    tap.ok(not load.bad and not load.cuts, "no request failed", load.summary())


story.main(tell)
