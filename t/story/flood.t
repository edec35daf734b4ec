#!/usr/bin/env python3
"""A flood of requests from very many addresses: limits stop most of it, and no good request is lost."""

import asyncio
import random
import re
import time
from collections import Counter
from pathlib import Path

import story
from story import Backend, Client, Nginx, total

SECONDS = 12
BATCH, BURST = 12, 4


def document(backend):
    return {
        "version": 1,
        "limiters": [
            {"name": "ip", "key": ["ip"], "rate": "10/s", "burst": BURST},
            {"name": "guesses", "key": ["ip"], "rate": "1/m", "burst": 2, "on": "auth_failure"},
        ],
        "auth": [{"name": "keys", "api_key": {"header": "X-API-Key"}}],
        "consumers": [{"name": "good", "api_key": ["a-key-of-a-good-client-that-is-long"]}],
        "upstreams": [{"name": "u", "nodes": [backend.node]}],
        "routes": [{"name": "all", "paths": ["/*"], "upstream": "u", "auth": ["keys"], "limits": ["ip", "guesses"],
                    "max_in_flight": 200}],
    }


class Flood:
    """Each batch comes from an address of its own; half of them know a key, half guess."""

    def __init__(self, port):
        self.port, self.going, self.addresses, self.statuses, self.lost = port, True, set(), Counter(), 0
        self.sent = 0

    async def run(self):
        while self.going:
            # nginx's realip module keeps every address as long as the connection lasts that brought it.
            await self.connection(50)

    async def connection(self, batches):
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        while self.going and batches:
            batches -= 1
            address = f"10.{random.randrange(256)}.{random.randrange(256)}.{random.randrange(1, 255)}"
            if address in self.addresses:
                continue
            self.addresses.add(address)
            key = "a-key-of-a-good-client-that-is-long" if len(self.addresses) % 2 else "a-guess"
            head = f"GET /x HTTP/1.1\r\nHost: story\r\nX-Forwarded-For: {address}\r\nX-API-Key: {key}\r\n\r\n"
            writer.write(head.encode() * BATCH)
            self.sent += BATCH
            seen = Counter()
            for _ in range(BATCH):
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
                await reader.readexactly(length)
                seen[int(head.split(b" ", 2)[1])] += 1
            self.statuses += seen
            # What passes of one address, whatever the time that the batch takes: its burst and a little more.
            self.lost += seen[200] < BURST and key != "a-guess"
        writer.close()


def private(nginx):
    """What the workers have to themselves, kilobytes: the zone is not in it."""
    text = [Path(f"/proc/{pid}/status").read_text() for pid in nginx.worker_pids()]
    return sum(int(re.search(r"RssAnon:\s+(\d+)", status)[1]) for status in text)


async def tell(tap):
    backend = await Backend(tap, "u").start()
    nginx = await Nginx(tap, document(backend),
                        server="set_real_ip_from 127.0.0.0/8; real_ip_header X-Forwarded-For;").start()
    good, slowest, going = Counter(), 0.0, True

    async def honest(number):
        nonlocal slowest
        client = Client(nginx.port)
        headers = [f"X-Forwarded-For: 192.0.2.{number}", "X-API-Key: a-key-of-a-good-client-that-is-long"]
        while going:
            began = time.monotonic()
            answer = await client.get("/good", headers=headers)
            slowest = max(slowest, time.monotonic() - began)
            good[answer.status] += 1
            await asyncio.sleep(0.2)
        client.close()

    people = [asyncio.create_task(honest(number)) for number in range(1, 17)]
    await asyncio.sleep(1)
    before = private(nginx)
    flood = Flood(nginx.port)
    began = time.monotonic()
    floods = [asyncio.create_task(flood.run()) for _ in range(16)]
    await asyncio.sleep(SECONDS)
    flood.going = False
    await asyncio.gather(*floods)
    span = time.monotonic() - began
    going = False
    await asyncio.gather(*people)
    after = private(nginx)

    tap.note(f"{flood.sent} requests from {len(flood.addresses)} addresses in {span:.1f} s: {dict(flood.statuses)}; "
             f"{sum(good.values())} good ones, the slowest took {slowest * 1000:.0f} ms")
    tap.ok(set(good) == {200} and good[200] > 16 * 5, "no good request is lost", dict(good))
    tap.ok(len(flood.addresses) > 1000 and set(flood.statuses) <= {200, 401, 429}, "a flood from very many addresses",
           dict(flood.statuses))
    tap.ok(flood.statuses[429] > 0.5 * flood.sent, "most of it is stopped", dict(flood.statuses))
    tap.ok(flood.lost == 0, "each new address has its burst", flood.lost)
    guessed = flood.statuses[401]
    tap.ok(0 < guessed <= len(flood.addresses) + 1, "nobody guesses more than twice", guessed)
    hits = total(await nginx.metrics(), "gateway_rate_limit_hits_total")
    tap.ok(hits == flood.statuses[429], "every refusal is counted", f"{hits:.0f}")
    tap.ok(0 < after <= before + 8192, "workers keep nothing of it", before, after)


story.main(tell)
