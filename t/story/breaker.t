#!/usr/bin/env python3
"""A breaker opens for every worker at once, lets five probes through, closes; nothing sticks, whoever is killed."""

import asyncio
import os
import signal
import time

import story
from story import Backend, Client, Cut, Load, Nginx, until

PROBES = 5


def document(backend, open_for):
    return {
        "version": 1,
        "upstreams": [
            {
                "name": "u",
                "nodes": [backend.node],
                "retries": {"attempts": 1},
                "breaker": {"failures": 10, "window": "10s", "open_for": f"{open_for}s", "probes": PROBES, "closes_after": 5},
            }
        ],
        "routes": [{"name": "all", "paths": ["/*"], "upstream": "u"}],
    }


async def tell(tap):
    backend = await Backend(tap, "u").start()
    nginx = await Nginx(tap, document(backend, 2), workers=2, server="location = /nginx { return 503; }").start()
    clients = await nginx.one_client_each()

    async def median(path):
        """Milliseconds that one of 300 answers takes, one after another."""
        client, times = clients[min(clients)], []
        for _ in range(300):
            began = time.perf_counter()
            assert (await client.get(path)).status == 503
            times.append(time.perf_counter() - began)
        return sorted(times)[len(times) // 2] * 1000

    async def opens(name):
        """Ten failures over both workers, then refusals that the backend never sees; when it opened."""
        backend.status = 500
        pair = list(clients.values())
        answers = [(await pair[number % 2].get("/")).status for number in range(10)]
        gauge = await nginx.breaker("u", "open")
        opened, count = time.monotonic(), backend.count
        refused = [await client.get("/") for client in pair for _ in range(3)]
        tap.ok(answers == [500] * 10, f"{name}: ten failures come through", answers)
        tap.ok(
            all(answer.status == 503 and 1 <= int(answer.headers.get("retry-after", 0)) <= 10 for answer in refused)
            and {answer.worker for answer in refused} == set(clients),
            f"{name}: then 503 and Retry-After from every worker",
            [(answer.status, answer.headers.get("retry-after")) for answer in refused],
        )
        tap.ok(backend.count == count, f"{name}: without touching the backend")
        tap.ok(gauge == "open", f"{name}: the gauge says open", gauge)
        if name == "cycle 1":
            # What the client and nginx take for themselves is in both.
            ours, own = await median("/"), await median("/nginx")
            tap.ok(ours - own <= 1, f"{name}: a refusal takes at most 1 ms more than a 503 of nginx itself",
                   f"{ours:.3f} ms, {own:.3f} ms")
        return opened

    async def crowd(count, path):
        """So many requests at once over as many connections: both workers have some."""
        many = [Client(nginx.port) for _ in range(count)]
        answers = await asyncio.gather(*(client.get(path) for client in many), return_exceptions=True)
        for client in many:
            client.close()
        return answers

    for cycle in (1, 2, 3):
        opened = await opens(f"cycle {cycle}")
        if cycle == 2:
            # A failing probe opens it again.
            await asyncio.sleep(max(0, opened + 2.05 - time.monotonic()))
            count = backend.count
            failed = await clients[min(clients)].get("/")
            gauge = await nginx.breaker("u", "open")
            again = await clients[max(clients)].get("/")
            tap.ok((failed.status, gauge, again.status) == (500, "open", 503) and backend.count == count + 1,
                   "cycle 2: a probe that fails opens it again, for all",
                   failed.status, gauge, again.status, f"{backend.count - count} at the backend")
            opened = time.monotonic()
        backend.status, backend.peak = 200, 0
        await asyncio.sleep(max(0, opened + 2.05 - time.monotonic()))
        # The backend takes much longer over a probe than the crowd over coming in, so all that can be at once are; and
        # less than open_for, after which a probe that has not reported loses its place.
        answers = await crowd(60, "/?ms=1200")
        statuses = [answer.status for answer in answers if not isinstance(answer, Exception)]
        workers = {answer.worker for answer in answers if not isinstance(answer, Exception)}
        tap.ok(statuses.count(200) == PROBES and statuses.count(503) == 60 - PROBES and backend.peak == PROBES,
               f"cycle {cycle}: {PROBES} probes of 60 requests over {len(workers)} workers",
               f"{statuses.count(200)} passed, {statuses.count(503)} refused, at most {backend.peak} in flight")
        closed = await nginx.breaker("u", "closed") == "closed"
        healed = await crowd(60, "/")
        tap.ok(closed and all(answer.status == 200 for answer in healed), f"cycle {cycle}: then it is closed")

    # A killed prober. open_for is long against the second or so in which its places have to be free again, so that it
    # is not merely their time that is over.
    nginx.edit(document(backend, 6))
    before = await nginx.metrics()
    tap.ok(await until(lambda: changed(nginx, before), 2), "open_for is 6 s now")
    opened = await opens("kill")
    backend.status, backend.peak = 200, 0
    victim = min(clients)
    held = []
    while len(held) < PROBES:
        client = Client(nginx.port, retry=False)
        if (await client.get("/-")).worker == victim:
            held.append(client)
        else:
            client.close()
    await asyncio.sleep(max(0, opened + 6.1 - time.monotonic()))
    count = backend.count
    tasks = [asyncio.create_task(client.get("/?ms=30000")) for client in held]
    await until(lambda: backend.count == count + PROBES, 2)
    tap.ok(backend.count == count + PROBES, "kill: a worker holds every probe")
    other = clients[max(clients)]
    tap.ok((await other.get("/")).status == 503, "kill: so the other one has none")
    os.kill(victim, signal.SIGKILL)
    began = time.monotonic()
    ends = await asyncio.gather(*tasks, return_exceptions=True)
    tap.ok(all(isinstance(end, Cut) for end in ends), "kill: its requests are lost")

    async def passes():
        return (await other.get("/")).status == 200

    tap.ok(await until(passes, 3, 0.05), "kill: its probes are free again well before their time is over",
           f"after {time.monotonic() - began:.2f} s")
    backend.peak = 0
    answers = await crowd(30, "/?ms=300")
    good = sum(not isinstance(answer, Exception) and answer.status == 200 for answer in answers)
    tap.ok(1 <= good and backend.peak <= PROBES, "kill: never more than five probes", f"{good} passed, peak {backend.peak}")
    # Fewer than five may have passed at once; then it takes another round to close.
    for _ in range(5):
        if await nginx.breaker("u", "closed", 0.5) == "closed":
            break
        await crowd(5, "/")
    tap.ok(await nginx.breaker("u", "closed") == "closed" and (await other.get("/")).status == 200, "kill: then it is closed")
    await all_bad_then_back(tap, nginx)
    tap.ok(nginx.logged("alert") == [line for line in nginx.logged("alert") if f"{victim} exited on signal 9" in line],
           "no other alert", *nginx.logged("alert"))


async def all_bad_then_back(tap, nginx):
    """All backends of an upstream fail under a load that goes on, and are well again, three times."""
    pair = [await Backend(tap, name).start() for name in ("one", "two")]
    for backend in pair:
        backend.delay = 0.03
    before = await nginx.metrics()
    nginx.edit({
        "version": 1,
        "upstreams": [{
            "name": "v",
            "nodes": [backend.node for backend in pair],
            "breaker": {"failure_ratio": "50%", "minimum_calls": 10, "window": "5s", "open_for": "1s", "probes": PROBES},
        }],
        "routes": [{"name": "all", "paths": ["/*"], "upstream": "v"}],
    })
    tap.ok(await until(lambda: changed(nginx, before), 2), "back: another upstream, of two backends")
    answers = []
    load = Load(nginx.port, 16, pause=0.01, note=lambda answer, began: answers.append((answer, time.monotonic() - began)))
    load.start()
    in_flight = 0

    async def watch():
        nonlocal in_flight
        while load.going:
            in_flight = max(in_flight, sum(backend.in_flight for backend in pair))
            await asyncio.sleep(0.003)

    watching = asyncio.create_task(watch())

    async def is_well():
        answers.clear()
        await asyncio.sleep(0.2)
        return answers and all(answer.status == 200 for answer, _ in answers)

    tap.ok(await until(is_well, 5), "back: all is well")
    for cycle in (1, 2, 3):
        for backend in pair:
            backend.status = 500
        gauge = await nginx.breaker("v", "open", 5)
        # What was let through before it opened comes to its end.
        await asyncio.sleep(0.3)
        in_flight = 0
        answers.clear()
        await asyncio.sleep(2.5)
        refused = [(answer, seconds) for answer, seconds in answers if answer.status == 503]
        median = sorted(seconds for _, seconds in refused)[len(refused) // 2] if refused else 1
        tap.ok(gauge == "open" and len(refused) > 0.8 * len(answers)
               and all(int(answer.headers.get("retry-after", 0)) >= 1 for answer, _ in refused),
               f"back {cycle}: all are bad, so 503 and Retry-After", f"{len(refused)} of {len(answers)}, half within {median * 1000:.1f} ms")
        for backend in pair:
            backend.status = 200
        healed = time.monotonic()
        well = await until(is_well, 10)
        took = time.monotonic() - healed
        tap.ok(well and took <= 1 + 2, f"back {cycle}: normal within the open time and 2 s", f"{took:.2f} s")
        closing = await nginx.breaker("v", "closed")
        tap.ok(0 < in_flight and closing == "closed", f"back {cycle}: and closed", closing)
    # From the moment it closed, requests are no probes any more; so what was in flight is looked at while it is bad.
    for backend in pair:
        backend.status = 500
    await nginx.breaker("v", "open", 5)
    await asyncio.sleep(0.3)
    in_flight = 0
    await asyncio.sleep(2.5)
    tap.ok(0 < in_flight <= PROBES, "back: never more than five probes in flight, over both workers", f"{in_flight}")
    await load.stop()
    watching.cancel()
    tap.ok(set(load.statuses) <= {200, 500, 503} and not load.cuts, "back: nothing else came", load.summary())


async def changed(nginx, before):
    name = "gateway_config_generation"
    return (await nginx.metrics())[name] != before[name]


story.main(tell)
