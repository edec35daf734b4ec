#!/usr/bin/env python3
"""One generation of processes and documents after the other: reloads with a thousand kept connections, mistakes in the
document and in nginx.conf under load, and the number of threads over fifty reloads.

GATEWAY_RELOADS says how many reloads there are, one a second (20).
"""

import asyncio
import os
import signal
import time
from pathlib import Path

import story
from story import Backend, Client, Load, Nginx, until

RELOADS = int(os.environ.get("GATEWAY_RELOADS", "20"))
KEPT = 1_000
SHUTDOWN = 4


def document(good, bad, **more):
    return {
        "version": 1,
        "limiters": [{"name": "few", "key": ["header:x-key"], "rate": "1/h", "burst": 5}],
        "upstreams": [
            {"name": "good", "nodes": [good.node]},
            {"name": "bad", "nodes": [bad.node], "retries": {"attempts": 1},
             "breaker": {"failures": 5, "window": "60s", "open_for": "300s"}},
        ],
        "routes": [
            {"name": "all", "paths": ["/*"], "upstream": "good"},
            {"name": "bad", "paths": ["/bad"], "upstream": "bad"},
            {"name": "few", "paths": ["/few"], "upstream": "good", "limits": ["few"]},
        ],
        **more,
    }


async def once(nginx, path, **more):
    async with Client(nginx.port) as client:
        return await client.get(path, **more)


async def stands(nginx):
    return (await once(nginx, "/few", headers=["X-Key: k"])).status, (await once(nginx, "/bad")).status


async def renewed(nginx, seconds=5):
    """A reload, until new workers alone take connections."""
    old = set(nginx.worker_pids())
    nginx.reload()
    return await until(lambda: len(now := set(nginx.worker_pids())) == nginx.workers and not now & old, seconds)


def threads(pid):
    try:
        return len(os.listdir(f"/proc/{pid}/task"))
    except OSError:
        return 0


def smooth(tap, loads, what):
    for load in loads:
        tap.ok(not load.bad and not load.cuts, f"{what}: no request failed, no connect was refused", load.summary())


async def reloads(tap, nginx):
    # Kept connections of which each asks every 2 s; a close while one is idle is no failure, see reload.t.
    kept = Load(nginx.port, KEPT, path="/kept", pause=2.0).start()
    fast = Load(nginx.port, 16).start()
    await asyncio.sleep(3)
    grown = await until(lambda: nginx.rss(), 1)
    late, old = [], {}
    for _ in range(RELOADS):
        began = time.monotonic()
        nginx.reload()
        while time.monotonic() < began + 1:
            await asyncio.sleep(0.05)
            now = set(nginx.old_pids())
            for pid in now:
                old.setdefault(pid, time.monotonic())
            late += [pid for pid in now if time.monotonic() - old[pid] > SHUTDOWN + 1]
    tap.ok(await until(lambda: not nginx.old_pids(), SHUTDOWN + 1), "old workers are gone in time", nginx.old_pids())
    tap.ok(not late, f"after every reload within {SHUTDOWN + 1} s", late)
    await asyncio.gather(kept.stop(), fast.stop())
    smooth(tap, (kept, fast), f"{RELOADS} reloads, one a second, {KEPT} kept connections")
    grown = nginx.rss() - grown
    tap.ok(grown <= 1024, "the master does not grow by more than 1 MB", f"{grown} kB")
    tap.ok(await stands(nginx) == (429, 503), "limit and breaker stand")


async def mistakes(tap, nginx, good, bad):
    generation = next(iter((await nginx.metrics())["gateway_config_generation"].values()))
    fast = Load(nginx.port, 8).start()
    twice = document(good, bad)
    twice["routes"].append({"name": "all", "paths": ["/twice"], "upstream": "good"})
    torn = document(good, bad)
    # Right but for the last of many.
    torn["routes"] += [{"name": f"new-{n}", "paths": [f"/new/{n}"], "upstream": "good" if n < 50 else "nobody"} for n in range(51)]
    huge = document(good, bad)
    huge["routes"] += [
        {"name": f"route-{n}", "paths": [f"/api/v1/{n}/{'x' * 200}/*"], "upstream": "good"} for n in range(20_000)
    ]
    for name, text, told in (
        ("two of one name", twice, "all"),
        ("a reference to nothing, at the end", torn, "nobody"),
        ("twenty times the size", huge, "does not fit into the zone"),
        ("no document", [1, 2], "gateway.yaml:"),
    ):
        seen = len(nginx.logged("error"))
        nginx.edit(text)
        said = await until(lambda: [line for line in nginx.logged("error")[seen:] if told in line and "gateway.yaml" in line], 30)
        tap.ok(said, f"{name}: told", *(said or nginx.logged("error")[seen:])[:1])
        now = await nginx.metrics()
        tap.ok(next(iter(now["gateway_config_generation"].values())) == generation, f"{name}: nothing of it is live")
        tap.ok(next(iter(now["gateway_config_degraded"].values())) == 1, f"{name}: degraded")
        workers = nginx.worker_pids()
        seen = len(nginx.logged("emerg"))
        if text is huge:
            # Whether there is room is for the leader to say, whom a reload does not ask: what is live stays.
            # The master reads it before it finds nothing to do.
            tap.ok(await renewed(nginx, 40), f"{name}: a reload goes on with what is live")
            continue
        nginx.reload()
        tap.ok(await until(lambda: len(nginx.logged("emerg")) > seen, 10), f"{name}: a reload is refused")
        tap.ok(nginx.worker_pids() == workers, f"{name}: the old workers serve")
    nginx.edit(document(good, bad))

    async def mended():
        return next(iter((await nginx.metrics())["gateway_config_degraded"].values())) == 0

    tap.ok(await until(mended, 3), "mended")
    conf = nginx.conf.read_text()
    for name, text, told in (
        ("an upstream that is not in the document", conf.replace("gateway_balancer;", "gateway_balancer nobody;"), r'there is no upstream "nobody"'),
        ("a second zone", conf.replace("gateway_config ", "gateway_zone other 1m; gateway_config "), "is duplicate"),
        ("a zone that is too small", conf.replace("main 8m", "main 100k"), "is too small"),
    ):
        nginx.conf.write_text(text)
        workers, seen = nginx.worker_pids(), len(nginx.logged("emerg"))
        nginx.reload()
        said = await until(lambda: [line for line in nginx.logged("emerg")[seen:] if told in line and "nginx.conf:" in line], 5)
        tap.ok(said and nginx.worker_pids() == workers, f"nginx.conf with {name}: refused with its line", *nginx.logged("emerg")[seen:][:1])
    nginx.conf.write_text(conf)
    tap.ok(await renewed(nginx), "nginx.conf is mended")
    await fast.stop()
    smooth(tap, (fast,), "mistakes")
    tap.ok(await stands(nginx) == (429, 503), "limit and breaker stand")


async def counted(tap, nginx):
    def count():
        return sorted(threads(pid) for pid in (*nginx.worker_pids(), nginx.leader_pid()))

    before, done = count(), []
    for _ in range(50):
        done.append(await renewed(nginx))
    await until(lambda: not nginx.old_pids() and nginx.leader_pid(), SHUTDOWN + 1)
    tap.ok(all(done) and await until(lambda: count() == before, 2), "fifty reloads: as many threads as before", before, count())
    tap.ok(threads(nginx.process.pid) == 1, "none but its own in the master")


async def alone(tap, good, bad):
    """`master_process off`: one process does everything."""
    nginx = Nginx(tap, document(good, bad), workers=0, main="master_process off;")
    nginx.conf.write_text(nginx.conf.read_text().replace("worker_processes 0;", ""))
    await nginx.start()
    tap.ok((await once(nginx, "/")).status == 200, "one process: it serves")
    changed = document(good, bad)
    changed["routes"][0]["name"] = "edited"
    nginx.edit(changed)

    async def live():
        return any(dict(labels).get("route") == "edited" for labels in (await nginx.metrics())["gateway_requests_total"])

    async def asked():
        await once(nginx, "/")
        return await live()

    tap.ok(await until(asked, 4), "it leads, too")
    tap.ok(not nginx.children(), "it has no children", nginx.children())
    began = time.monotonic()
    nginx.process.send_signal(signal.SIGQUIT)
    await until(lambda: nginx.process.poll() is not None, 5)
    tap.ok(time.monotonic() - began < 1.5 and nginx.process.poll() == 0, "and it ends in time")
    tap.ok(not nginx.logged("alert", "emerg", "crit"), "no alert", *nginx.logged("alert", "emerg", "crit")[:5])


async def tell(tap):
    good, bad = await Backend(tap, "good").start(), await Backend(tap, "bad").start()
    bad.status = 500
    nginx = Nginx(tap, document(good, bad), zone="8m")
    nginx.conf.write_text(
        nginx.conf.read_text().replace("worker_shutdown_timeout 20s", f"worker_shutdown_timeout {SHUTDOWN}s")
    )
    await nginx.start()
    spent = [(await once(nginx, "/few", headers=["X-Key: k"])).status for _ in range(6)]
    opened = [(await once(nginx, "/bad")).status for _ in range(5)]
    await nginx.breaker("bad", "open")
    tap.ok(spent == [200] * 5 + [429] and opened == [500] * 5, "a limit is spent, a breaker open", spent, opened)
    await reloads(tap, nginx)
    await counted(tap, nginx)
    tap.ok(not nginx.logged("alert", "emerg", "crit"), "no alert", *nginx.logged("alert", "emerg", "crit")[:5])
    await mistakes(tap, nginx, good, bad)
    tap.ok(not nginx.logged("alert", "crit"), "no alert", *nginx.logged("alert", "crit")[:5])
    await alone(tap, good, bad)


story.main(tell, limit=150 + 2 * RELOADS)
