#!/usr/bin/env python3
"""A limit is counted once for all workers."""

import asyncio
import math
import time

import story
from story import Backend, Client, Load, Nginx, total


def document(backend, rate, burst):
    return {
        "version": 1,
        "limiters": [{"name": "few", "key": ["ip"], "rate": f"{rate}/s", "burst": burst}],
        "upstreams": [{"name": "u", "nodes": [backend.node]}],
        "routes": [{"name": "free", "paths": ["/-"], "upstream": "u"},
                   {"name": "all", "paths": ["/*"], "upstream": "u", "limits": ["few"]}],
    }


async def volley(readers, count):
    """`count` requests at once, pipelined over the given connections: (admitted, refused, when it began, how long)."""
    head = b"GET / HTTP/1.1\r\nHost: story\r\n\r\n"
    began = time.monotonic()
    for client in readers:
        client.writer.write(head * (count // len(readers)))

    async def answers(client):
        found = []
        for _ in range(count // len(readers)):
            head = await client.reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
            await client.reader.readexactly(length)
            found.append(int(head.split(b" ", 2)[1]))
        return found

    found = sum(await asyncio.gather(*map(answers, readers)), [])
    return found.count(200), found.count(429), began, time.monotonic() - began


async def tell(tap):
    backend = await Backend(tap, "u").start()

    nginx = await Nginx(tap, document(backend, 10, 20)).start()
    pair = list((await nginx.one_client_each()).values())
    extra = [Client(nginx.port) for _ in range(8)]
    await asyncio.gather(*(client.get("/-") for client in extra))
    readers = pair + extra
    workers = {client.worker for client in readers}
    passed, refused, first, took = await volley(readers, 200)
    # Within 0.2 s at most two more fill in; a machine that needs longer gets what that time earns.
    most = 20 + max(2, math.ceil(10 * took))
    tap.ok(len(workers) == 2 and 20 <= passed <= most and passed + refused == 200,
           f"200 requests over 2 workers: 20 to {most} are admitted", f"{passed} of 200 in {took:.3f} s")
    await asyncio.sleep(max(0, first + took + 1 - time.monotonic()))
    more, refused, second, took2 = await volley(readers, 200)
    # All that was earned from the first request to the last, and nothing else: GCRA forgets nothing.
    span = second + took2 - first
    tap.ok(10 <= more and passed + more <= 20 + 10 * span + 1, "a second later 10 more",
           f"{more}, {passed + more} altogether in {span:.3f} s: at most {20 + 10 * span + 1:.1f}")
    hits = total(await nginx.metrics(), "gateway_rate_limit_hits_total", rule="few")
    tap.ok(hits == 400 - passed - more, "every refusal is counted", f"{hits:.0f}")
    for client in readers:
        client.close()

    rate, burst = 100, 10
    four = await Nginx(tap, document(backend, rate, burst), workers=4).start()
    await four.one_client_each()
    # Faster than the limit on any machine, slower than what would starve the others on it.
    began = time.monotonic()
    load = Load(four.port, 32, pause=0.02).start()
    await asyncio.sleep(5)
    await load.stop()
    span = time.monotonic() - began
    admitted = load.statuses[200]
    tap.ok(admitted <= rate * span + burst, "4 workers, one key, 5 s: never more than rate x time + burst",
           f"{admitted} of {load.sent} in {span:.2f} s, at most {rate * span + burst:.0f}")
    # Whoever asks all the time gets nearly all of it: what a limit refuses costs nothing.
    tap.ok(admitted >= 0.9 * (rate * 5 + burst), "and not much less", f"{admitted}")
    tap.ok(not load.cuts and set(load.statuses) == {200, 429}, "every request is answered 200 or 429", load.summary())


story.main(tell)
