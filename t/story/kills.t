#!/usr/bin/env python3
"""The leader or a worker is killed at a random moment, again and again, with edits under way: another leads within 2 s, no
edit that was live is lost, the one under way goes live, and what counts stays.

GATEWAY_KILLS says how many times (24).
"""

import asyncio
import os
import random
import re
import signal
import time

import story
from story import Backend, Client, Load, Nginx, total, until

KILLS = int(os.environ.get("GATEWAY_KILLS", "24"))


def document(good, bad, edits):
    return {
        "version": 1,
        "limiters": [{"name": "few", "key": ["header:x-key"], "rate": "1/h", "burst": 5}],
        "upstreams": [
            {"name": "good", "nodes": [good.node]},
            {"name": "bad", "nodes": [bad.node], "retries": {"attempts": 1},
             "breaker": {"failures": 5, "window": "60s", "open_for": "900s"}},
        ],
        "routes": [
            {"name": "all", "paths": ["/*"], "upstream": "good"},
            {"name": "bad", "paths": ["/bad"], "upstream": "bad"},
            {"name": "few", "paths": ["/few"], "upstream": "good", "limits": ["few"]},
            # The live policy says by itself how far it has come.
            {"name": "edits", "paths": ["/edits"], "reply": {"status": 200, "body": f"edit {edits}"}},
            *({"name": f"route-{n}", "paths": [f"/route/{edits}/{n}/*"], "upstream": "good"} for n in range(200)),
        ],
    }


class Stalls:
    """For how long this very process was held up: a machine that stands still says nothing about who leads."""

    def __init__(self):
        self.seconds = 0.0
        self.task = asyncio.create_task(self.watch())

    async def watch(self):
        while True:
            began = time.monotonic()
            await asyncio.sleep(0.05)
            late = time.monotonic() - began - 0.05
            self.seconds += late if late > 0.1 else 0


async def tell(tap):
    good, bad = await Backend(tap, "good").start(), await Backend(tap, "bad").start()
    bad.status = 500
    nginx = await Nginx(tap, document(good, bad, 0), workers=3).start()

    async def once(path, **more):
        for _ in range(20):
            try:
                async with Client(nginx.port) as client:
                    return await client.get(path, **more)
            except story.Cut:
                # The worker that was killed had it.
                await asyncio.sleep(0.01)
        raise RuntimeError("nobody answers")

    def leader():
        said = re.findall(r"(\d+)#\d+: gateway: this process leads", nginx.log())
        return int(said[-1]), len(said)

    async def edit_is(number):
        return (await once("/edits")).body == f"edit {number}".encode()

    spent = [(await once("/few", headers=["X-Key: k"])).status for _ in range(6)]
    opened = [(await once("/bad")).status for _ in range(5)]
    await nginx.breaker("bad", "open")
    tap.ok(spent == [200] * 5 + [429] and opened == [500] * 5, "a limit is spent, a breaker open", spent, opened)

    load = Load(nginx.port, 8, pause=0.005, retry=False).start()
    before = total(await nginx.metrics(), "gateway_requests_total")
    edits, takeovers, lives, lost, victims, stalls = 0, [], [], [], set(), Stalls()
    for number in range(KILLS):
        if not await edit_is(edits):
            lost.append(edits)
        edits += 1
        nginx.edit(document(good, bad, edits))
        # In which of its two looks, in reading, in publishing or in between.
        await asyncio.sleep(random.random() * 0.7)
        (leads, said), began, held = leader(), time.monotonic(), stalls.seconds
        took = lambda: time.monotonic() - began - (stalls.seconds - held)
        kills_leader = number % 3 != 2
        victim = leads if kills_leader else random.choice([pid for pid in nginx.worker_pids() if pid != leads])
        victims.add(victim)
        story.send(victim, signal.SIGKILL)
        if kills_leader:
            await until(lambda: leader()[1] > said, 6, every=0.01)
            takeovers.append(took())
        await until(lambda: edit_is(edits), 6)
        lives.append(took())
        await until(lambda: len(nginx.worker_pids()) == nginx.workers, 3)
    await load.stop()
    stalls.task.cancel()
    tap.note(f"this process was held up for {stalls.seconds:.2f} s")
    tap.ok(max(takeovers) < 2, f"{len(takeovers)} leaders killed: another leads within 2 s", f"slowest {max(takeovers):.2f} s")
    tap.ok(not lost, f"{KILLS} kills: no edit that was live is lost", lost)
    tap.ok(max(lives) < 3.5, "and the one under way goes live", f"slowest {max(lives):.2f} s")
    strange = [cut for cut in load.cuts if cut[0] is not None and cut[0] not in victims]
    tap.ok(not strange and not load.bad, "no request failed but on connections of the killed", load.summary())
    few = {(await once("/few", headers=["X-Key: k"])).status for _ in range(6)}
    broken = {(await once("/bad")).status for _ in range(6)}
    tap.ok((few, broken) == ({429}, {503}), "limit and breaker stand", few, broken)
    after = await nginx.metrics()
    served = sum(load.statuses.values())
    counted = total(after, "gateway_requests_total") - before
    tap.ok(counted >= served, "no request that was answered is missing in the counters", f"{counted:.0f} counted, {served} answered")

    async def idle():
        return total(await nginx.metrics(), "gateway_active_connections") == 0

    tap.ok(await until(idle, 3), "nothing is in flight")
    strange = [line for line in nginx.logged("alert", "emerg", "crit") if "exited on signal 9" not in line]
    tap.ok(not strange, "no other alert", *strange[:5])


story.main(tell, limit=60 + 4 * KILLS)
