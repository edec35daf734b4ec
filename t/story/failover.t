#!/usr/bin/env python3
"""One of two backends is killed under load and started again: no client notices."""

import asyncio
import time

import story
from story import Backend, Load, Nginx


async def tell(tap):
    one, two = await Backend(tap, "one").start(), await Backend(tap, "two").start()
    # Some milliseconds of work, so that requests are in hand when the kill comes.
    one.delay = two.delay = 0.005
    nginx = await Nginx(
        tap,
        {
            "version": 1,
            "upstreams": [{"name": "u", "nodes": [one.node, two.node]}],
            "routes": [{"name": "all", "paths": ["/*"], "upstream": "u"}],
        },
    ).start()
    load = Load(nginx.port, 16).start()

    async def share(seconds):
        """The second backend's share of the answers that clients get meanwhile."""
        before = load.ports.copy()
        await asyncio.sleep(seconds)
        now = load.ports - before
        return now[two.port] / max(1, now.total())

    await asyncio.sleep(1)
    usual = await share(2)
    tap.ok(0.3 < usual < 0.7, "both have about half before", f"share of the second {usual:.3f}")

    two.kill()
    began = time.monotonic()
    gone = await share(2)
    tap.ok(gone < 0.02, "killed: it answers nothing any more, the other answers all", f"share {gone:.4f}")
    await two.start()
    tried = two.count
    # Five failures in a row eject a node for 30 s. Then it needs a second or two to be believed.
    back = 0.0
    while back < usual / 2 and time.monotonic() - began < 45:
        back = await share(1)
    tap.ok(back >= usual / 2, "started again: its share comes back by itself",
           f"share {back:.3f}, {time.monotonic() - began:.1f} s after the kill")
    tap.ok(two.count > tried, "and it is what answers")

    await load.stop()
    tap.ok(not load.bad and not load.cuts, "no client saw an error", load.summary())
    tap.ok(load.statuses[200] == load.sent, "every request has its answer")
    tap.ok(not nginx.logged("alert", "emerg", "crit"), "nothing alarming in the log",
           *nginx.logged("alert", "emerg", "crit")[:5])


story.main(tell)
