#!/usr/bin/env python3
"""Workers and the leader are killed, a worker is stopped: others go on, and nothing that counts is lost."""

import asyncio
import os
import random
import signal
import time

import story
from story import Backend, Client, Load, Nginx, counters, total, until


def document(good, bad, mark):
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
            {"name": f"mark{mark}", "paths": [f"/mark/{mark}"], "methods": ["GET"], "upstream": "good"},
        ],
    }


async def tell(tap):
    good, bad = await Backend(tap, "good").start(), await Backend(tap, "bad").start()
    good.delay, bad.status = 0.005, 500
    nginx = await Nginx(tap, document(good, bad, 0), workers=3).start()

    async def once(path, **more):
        async with Client(nginx.port) as client:
            return await client.get(path, **more)

    # A bucket that is empty for minutes, a breaker that is open for minutes.
    spent = [(await once("/few", headers=["X-Key: k"])).status for _ in range(6)]
    opened = [(await once("/bad")).status for _ in range(10)]
    await nginx.breaker("bad", "open")
    opened.append((await once("/bad")).status)
    tap.ok(spent == [200] * 5 + [429] and opened == [500] * 10 + [503], "a limit is used up, a breaker open", spent, opened)

    async def keeps(name, before):
        """Everything that counts is as it was, in every worker."""
        clients = await nginx.one_client_each()
        refused = [(await client.get("/few", headers=["X-Key: k"])).status for client in clients.values()]
        broken = [(await client.get("/bad")).status for client in clients.values()]
        for client in clients.values():
            client.close()
        now = await nginx.metrics()
        # What routes had that are gone counts as `other`, so those are looked at together.
        together = lambda metrics: {
            key: value for key, value in counters(metrics).items() if "mark" not in str(key[1]) and "other" not in str(key[1])
        } | {("sum", name): total(metrics, name) for name in metrics if name.endswith(("_total", "_count"))}
        old, new = together(before), together(now)
        fallen = {key: (value, new.get(key)) for key, value in old.items() if new.get(key, 0) < value}
        tap.ok(set(refused) == {429} and set(broken) == {503} and not fallen,
               f"{name}: limit, breaker and counters keep their values", refused, broken, fallen)

    # --- workers
    load = Load(nginx.port, 24, retry=False).start()
    await asyncio.sleep(0.5)
    victims = []
    for number in (1, 2, 3):
        await asyncio.sleep(0.3 + random.random() / 5)
        before = await nginx.metrics()
        victims.append(random.choice(nginx.worker_pids()))
        os.kill(victims[-1], signal.SIGKILL)
        back = await until(lambda: len(nginx.worker_pids()) == 3 and victims[-1] not in nginx.worker_pids(), 3)
        tap.ok(back, f"kill {number}: there is another worker")
        await keeps(f"kill {number}", before)
    await load.stop()
    # A connection that has not been answered yet may be the victim's too, but no more of them than one a client and kill.
    others = [cut for cut in load.cuts if cut[0] not in victims and cut[0] is not None]
    fresh = [cut for cut in load.cuts if cut[0] is None]
    tap.ok(not others and len(load.cuts) <= 3 * 24 and not load.bad,
           "no failed request beyond those on the killed workers' own connections",
           load.summary(), f"{len(load.cuts)} cut, {len(fresh)} of them on connections without an answer yet")

    async def idle():
        return total(await nginx.metrics(), "gateway_active_connections") == 0

    tap.ok(await until(idle, 3), "what the dead had in flight is not in flight any more",
           total(await nginx.metrics(), "gateway_active_connections"))

    # --- the leader
    async def goes_live(mark, clients, seconds):
        """Whether an edit is live for all of `clients`; how long that took."""
        began = time.monotonic()
        nginx.edit(document(good, bad, mark))

        async def live():
            # `/*` answers too; only the marked route knows that it has no POST.
            return all([(await client.request("DELETE", f"/mark/{mark}")).status == 200 for client in clients]) and (
                f'route="mark{mark}"' in str(await texts(clients, mark)))

        async def texts(clients, mark):
            for client in clients:
                await client.get(f"/mark/{mark}")
            found = await nginx.metrics()
            return " ".join(f'{name}="{value}"' for labels in found["gateway_requests_total"] for name, value in labels)

        return await until(live, seconds), time.monotonic() - began

    clients = await nginx.one_client_each()
    for number in (1, 2):
        before = await nginx.metrics()
        leader, said = nginx.leader_pid(), nginx.log().count("this process leads")
        os.kill(leader, signal.SIGKILL)
        began = time.monotonic()
        leads = await until(lambda: nginx.log().count("this process leads") > said, 4)
        took = time.monotonic() - began
        tap.ok(leads and took < 2, f"leader {number}: another leads within 2 s", f"{took:.2f} s")
        live, took = await goes_live(number, clients.values(), 4)
        tap.ok(live and took < 2, f"leader {number}: edits go live again", f"{took:.2f} s")
        await keeps(f"leader {number}", before)

    # --- a worker that stands still
    stopped = random.choice(list(clients))
    others = [client for pid, client in clients.items() if pid != stopped]
    os.kill(stopped, signal.SIGSTOP)
    try:
        slowest, began = 0.0, time.monotonic()
        while time.monotonic() - began < 2:
            for client in others:
                start = time.monotonic()
                assert (await client.get("/")).status == 200
                slowest = max(slowest, time.monotonic() - start)
        tap.ok(slowest < 1, "a stopped worker does not stall the others", f"slowest of their answers {slowest:.3f} s")
        live, took = await goes_live(3, others, 4)
        tap.ok(live and took < 2, "edits go live while it stands still", f"{took:.2f} s")
        # Many generations pass it by; what it may still look at is kept for it.
        for mark in range(4, 8):
            await goes_live(mark, others, 4)
    finally:
        os.kill(stopped, signal.SIGCONT)
    one = clients[stopped]
    tap.ok((await one.get("/")).status == 200 and (await one.get("/bad")).status == 503, "it goes on when it may")
    live, took = await goes_live(8, clients.values(), 4)
    tap.ok(live, "and follows", f"{took:.2f} s")
    strange = [line for line in nginx.logged("alert", "emerg", "crit") if "exited on signal 9" not in line]
    tap.ok(not strange, "no other alert", *strange[:5])


story.main(tell)
