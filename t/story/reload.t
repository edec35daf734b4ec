#!/usr/bin/env python3
"""`nginx -s reload` again and again under load: no request fails, and nothing that counts is lost.

An old worker closes its idle connections, and a request may already be on its way to one of them. No server can help
that; the client sends it again on a new connection, as RFC 9112, 9.5 has it, once. Such a close shows as an end or, when
the request reached the kernel before the close, as a reset, both before the first byte of an answer. What is retried is
counted and shown; anything else is a failure.
"""

import asyncio
import time

import story
from story import Backend, Client, Load, Nginx, counters, total, until


def document(good, bad):
    return {
        "version": 1,
        "limiters": [{"name": "few", "key": ["header:x-key"], "rate": "1/m", "burst": 5}],
        "upstreams": [
            {"name": "good", "nodes": [good.node]},
            {"name": "bad", "nodes": [bad.node], "retries": {"attempts": 1},
             "breaker": {"failures": 10, "window": "60s", "open_for": "300s"}},
        ],
        "routes": [
            {"name": "all", "paths": ["/*"], "upstream": "good"},
            {"name": "bad", "paths": ["/bad"], "upstream": "bad"},
            {"name": "few", "paths": ["/few"], "upstream": "good", "limits": ["few"]},
        ],
    }


async def tell(tap):
    good, bad = await Backend(tap, "good").start(), await Backend(tap, "bad").start()
    good.delay, bad.status = 0.002, 500
    nginx = await Nginx(tap, document(good, bad)).start()
    lost = total(await nginx.metrics(), "gateway_requests_total")

    async def once(path, **more):
        async with Client(nginx.port) as client:
            return await client.get(path, **more)

    spent = [(await once("/few", headers=["X-Key: k"])).status for _ in range(6)]
    opened = [(await once("/bad")).status for _ in range(10)]
    await nginx.breaker("bad", "open")
    opened.append((await once("/bad")).status)
    tap.ok(spent == [200] * 5 + [429] and opened == [500] * 10 + [503], "a limit is used up, a breaker open", spent, opened)
    before = await nginx.metrics()

    fast = Load(nginx.port, 24).start()
    # In flight at every reload: slow answers and slow bodies.
    slow = Load(nginx.port, 8, path="/?ms=700").start()
    uploads = Load(
        nginx.port, 4, ask=lambda client, _: client.request("POST", "/up", body=b"u" * 40_000, slowly=0.8)
    ).start()
    loads = (fast, slow, uploads)
    await asyncio.sleep(0.5)
    first = set(nginx.worker_pids())
    for number in range(10):
        began = time.monotonic()
        nginx.reload()
        if number == 5:
            refused, broken = await once("/few", headers=["X-Key: k"]), await once("/bad")
            tap.ok((refused.status, broken.status) == (429, 503), "limit and breaker in the middle of it all")
        await asyncio.sleep(max(0, began + 1 - time.monotonic()))
    await asyncio.sleep(0.5)
    last = set(nginx.worker_pids())
    await asyncio.gather(*(load.stop() for load in loads))

    for name, load in (("fast", fast), ("slow", slow), ("uploads", uploads)):
        tap.ok(not load.bad and not load.cuts, f"ten reloads in ten seconds, {name}: no request failed", load.summary())
    retried, sent = sum(load.retried for load in loads), sum(load.sent for load in loads)
    # Each reload closes each connection at most once.
    tap.ok(retried <= 10 * 36, "only idle connections were closed", f"{retried} of {sent} sent again")
    tap.ok(not first & last and len(last) == nginx.workers, "the workers are others now", f"{first} {last}")
    tap.ok(await until(lambda: not nginx.old_pids(), 5), "the old ones are gone", nginx.old_pids())

    refused, broken = await once("/few", headers=["X-Key: k"]), await once("/bad")
    tap.ok((refused.status, broken.status) == (429, 503), "limit and breaker keep their values")
    after = await nginx.metrics()
    old, new = counters(before), counters(after)
    fallen = {key: (value, new.get(key)) for key, value in old.items() if new.get(key, 0) < value}
    tap.ok(not fallen, "no counter fell", fallen)
    expected = lost + len(spent) + len(opened) + sent + 4
    counted = total(after, "gateway_requests_total")
    tap.ok(counted == expected, "every request is counted once", f"{counted:.0f} counted, {expected:.0f} sent")
    active = total(after, "gateway_active_connections")
    tap.ok(active == 0, "nothing is in flight", active)

    # The master, without load: the first reloads of its life are behind it.
    async def reload():
        old = set(nginx.worker_pids())
        nginx.reload()
        return await until(lambda: len(now := set(nginx.worker_pids())) == nginx.workers and not now & old, 5)

    base = nginx.rss()
    done = [await reload() for _ in range(20)]
    grown = nginx.rss() - base
    tap.ok(all(done) and grown <= 1024, "20 more: the master does not grow by more than 1 MB", f"{grown} kB on {base} kB")
    tap.ok((await once("/")).status == 200, "and it works")
    tap.ok(not nginx.logged("alert", "emerg", "crit"), "no alert", *nginx.logged("alert", "emerg", "crit")[:5])


story.main(tell)
