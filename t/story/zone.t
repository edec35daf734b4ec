#!/usr/bin/env python3
"""`gateway_zone ... file=PATH`: what is in the zone is there again after a stop, a kill of everything, another size and a
start of the machine; what is no zone is never misread; nobody else gets in; and it goes through an upgrade of the binary.
"""

import asyncio
import os
import signal
import struct
import subprocess
import tempfile
import time
from pathlib import Path

import story
from story import BINARY, Backend, Client, Load, Nginx, total, until

# Where the header has what (src/state/mem.rs).
LAYOUT, BOOT = 8, 1040


def document(good, bad):
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
    }


async def once(nginx, path, **more):
    async with Client(nginx.port) as client:
        return await client.get(path, **more)


async def spend(nginx):
    """Spends the limit, opens the breaker."""
    spent = [(await once(nginx, "/few", headers=["X-Key: k"])).status for _ in range(6)]
    opened = [(await once(nginx, "/bad")).status for _ in range(5)]
    await nginx.breaker("bad", "open")
    return spent == [200] * 5 + [429] and opened == [500] * 5


async def stands(nginx):
    return (await once(nginx, "/few", headers=["X-Key: k"])).status, (await once(nginx, "/bad")).status


KEPT, FRESH = (429, 503), (200, 500)


async def quit(nginx):
    nginx.process.send_signal(signal.SIGQUIT)
    await until(lambda: nginx.process.poll() is not None, 10)


def pid_in(path):
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def poke(path, at, value):
    with open(path, "r+b") as file:
        file.seek(at)
        file.write(struct.pack("=Q", value))


async def restarts(tap, good, bad):
    place = tempfile.mkdtemp(prefix="gateway-zone-")
    zone = Path(place) / "zone"
    tap.ends.append(lambda: subprocess.run(["rm", "-rf", place]))
    nginx = await Nginx(tap, document(good, bad), zone=f"16m file={zone}").start()
    tap.ok(await spend(nginx), "a limit is spent, a breaker open")
    mode = zone.stat()
    tap.ok((mode.st_mode & 0o777, mode.st_size) == (0o600, 16 << 20), "the file is nobody else's", oct(mode.st_mode))
    before = total(await nginx.metrics(), "gateway_requests_total")

    other = Nginx(tap, document(good, bad), zone=f"16m file={zone}")
    said = subprocess.run([BINARY, "-p", other.folder, "-c", other.conf, "-e", other.folder / "logs/error.log"],
                          stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    expected = f"{zone}: is used by another nginx, whose master is or was process {nginx.process.pid}"
    tap.ok(said.returncode != 0 and expected in said.stderr, "another nginx is refused", said.stderr)
    said = subprocess.run([BINARY, "-t", "-p", other.folder, "-c", other.conf, "-e", other.folder / "logs/error.log"],
                          stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    tap.ok(said.returncode == 0, "a test is not, it leaves the file alone", said.stderr)

    nginx.reload()
    await asyncio.sleep(1)
    tap.ok(await stands(nginx) == KEPT, "a reload keeps everything")

    await quit(nginx)
    await nginx.start()
    tap.ok(await stands(nginx) == KEPT, "a restart keeps limit and breaker")
    after = total(await nginx.metrics(), "gateway_requests_total")
    tap.ok(after >= before, "and counters", f"{before} {after}")

    for pid in [nginx.process.pid, *nginx.children()]:
        story.send(pid, signal.SIGKILL)
    nginx.process.wait()
    await asyncio.sleep(0.2)
    await nginx.start()
    tap.ok(await stands(nginx) == KEPT, "so does the death of all processes at once")

    for size in ("24m", "8m"):
        conf = nginx.conf.read_text()
        nginx.conf.write_text(conf.replace(conf.split("gateway_zone main ")[1].split(" ")[0], size, 1))
        old = set(nginx.worker_pids())
        nginx.reload()
        tap.ok(await until(lambda: len(now := set(nginx.worker_pids())) == nginx.workers and not now & old, 5), f"a reload with {size}")
        tap.ok(zone.stat().st_size == int(size[:-1]) << 20 and await stands(nginx) == KEPT, "keeps limit and breaker")
    await until(lambda: not nginx.old_pids(), 5)

    await quit(nginx)
    poke(zone, BOOT, 1)
    await nginx.start()
    tap.ok(await stands(nginx) == KEPT, "a start of the machine after an orderly end keeps them, too")

    for name, spoil, told in (
        ("a machine that went down in the middle", lambda: poke(zone, BOOT, 2), "was in use when the machine went down"),
        ("another layout", lambda: poke(zone, LAYOUT, 3), "zone has layout 3"),
        ("a file that was cut", lambda: os.truncate(zone, 1 << 20), "zone was made for 8388608 bytes"),
        ("no zone at all", lambda: zone.write_bytes(b"x" * (8 << 20)), "zone holds something else"),
        ("a few bytes", lambda: zone.write_bytes(b"x"), "has 1 bytes"),
    ):
        if "middle" in name:
            for pid in [nginx.process.pid, *nginx.children()]:
                story.send(pid, signal.SIGKILL)
            nginx.process.wait()
        else:
            await quit(nginx)
        await asyncio.sleep(0.1)
        spoil()
        await nginx.start()
        warned = [line for line in nginx.logged("warn") if told in line and "is made anew" in line]
        tap.ok(await stands(nginx) == FRESH and warned, f"{name}: rebuilt with a warning", *nginx.logged("warn")[-1:])
    left = os.listdir(place)
    tap.ok(left == ["zone"], "nothing is left beside it", left)
    await quit(nginx)
    tap.ok(not nginx.logged("alert", "emerg", "crit"), "no alert", *nginx.logged("alert", "emerg", "crit")[:5])


class Daemon:
    """As much of a process as `Nginx` uses, of one that is nobody's child; nginx upgrades no other."""

    def __init__(self, pid):
        self.pid, self.stderr = pid, None

    def poll(self):
        return None if alive(self.pid) else 0

    def terminate(self):
        story.send(self.pid, signal.SIGTERM)

    def kill(self):
        story.send(self.pid, signal.SIGKILL)

    def wait(self, seconds=5):
        end = time.monotonic() + seconds
        while alive(self.pid) and time.monotonic() < end:
            time.sleep(0.05)


async def begin_daemon(nginx):
    nginx.conf.write_text(nginx.conf.read_text().replace("daemon off;", "daemon on;"))
    subprocess.run([BINARY, "-p", nginx.folder, "-c", nginx.conf, "-e", nginx.folder / "logs/error.log"],
                   stdin=subprocess.DEVNULL, check=True)
    await until(lambda: pid_in(nginx.folder / "nginx.pid"), 5)
    nginx.process = Daemon(pid_in(nginx.folder / "nginx.pid"))
    await until(lambda: len(nginx.worker_pids()) == nginx.workers and nginx.leader_pid(), 5)


async def upgrade(tap, good, bad, zone):
    """USR2, WINCH, and back; then USR2, WINCH, QUIT: the other master alone."""
    name = "with a file" if "file=" in zone else "without a file"
    kept = KEPT if "file=" in zone else FRESH
    nginx = Nginx(tap, document(good, bad), zone=zone)
    await begin_daemon(nginx)
    tap.ok(await spend(nginx), f"{name}: a limit is spent, a breaker open")
    pid, oldbin = nginx.folder / "nginx.pid", nginx.folder / "nginx.pid.oldbin"
    loads = [Load(nginx.port, 12).start(), Load(nginx.port, 4, path="/?ms=400").start()]
    first = nginx.process.pid

    async def begin():
        os.kill(first, signal.SIGUSR2)
        await until(lambda: pid_in(oldbin) == first and pid_in(pid) not in (None, first), 5)
        await asyncio.sleep(1)
        os.kill(first, signal.SIGWINCH)
        await until(lambda: not nginx.worker_pids() and not nginx.old_pids(), 10)
        return pid_in(pid)

    second = await begin()
    tap.ok(alive(second), f"{name}: another master")
    tap.ok(await stands(nginx) == kept, f"{name}: its workers find what {'was' if kept == KEPT else 'nobody'} left")
    # And back: the old master starts its workers again.
    os.kill(first, signal.SIGHUP)
    tap.ok(await until(lambda: len(nginx.worker_pids()) == nginx.workers, 5), f"{name}: the old one is back")
    await asyncio.sleep(0.5)
    os.kill(second, signal.SIGQUIT)
    tap.ok(await until(lambda: not alive(second) and pid_in(pid) == first, 10), f"{name}: the new one is gone")
    tap.ok(await stands(nginx) == KEPT, f"{name}: limit and breaker stand")
    third = await begin()
    os.kill(first, signal.SIGQUIT)
    await until(lambda: nginx.process.poll() is not None, 10)
    # One that is an orphan now is ended by its own number.
    tap.ends.append(lambda: story.send(third, signal.SIGTERM))
    tap.ok(alive(third) and await stands(nginx) == kept, f"{name}: and forth")
    changed = document(good, bad)
    changed["routes"][2]["paths"] = ["/other"]
    nginx.edit(changed)

    async def live():
        return (await once(nginx, "/other", headers=["X-Key: k"])).status == (429 if kept == KEPT else 200)

    tap.ok(await until(live, 4), f"{name}: somebody leads there")
    await asyncio.gather(*(load.stop() for load in loads))
    for load in loads:
        tap.ok(not load.bad and not load.cuts, f"{name}: no request failed", load.summary())
    os.kill(third, signal.SIGQUIT)
    await until(lambda: not alive(third), 10)
    tap.ok(not nginx.logged("alert", "emerg", "crit"), "no alert", *nginx.logged("alert", "emerg", "crit")[:5])


async def tell(tap):
    good, bad = await Backend(tap, "good").start(), await Backend(tap, "bad").start()
    bad.status = 500
    await restarts(tap, good, bad)
    with tempfile.TemporaryDirectory(prefix="gateway-zone-") as place:
        await upgrade(tap, good, bad, f"16m file={place}/zone")
    await upgrade(tap, good, bad, "16m")


story.main(tell)
