#!/usr/bin/env python3
"""One of three backends goes bad in each way there is: clients get whole answers or an honest error, never a mixture; the
bad one is left alone after ten failures at most; nothing is sent twice once a byte of an answer came."""

import asyncio
import time

import story
from story import Backend, Client, Cut, Nginx, free_port, until

BODY = b"x" * 4000


class Bad:
    """A backend that misbehaves as `mode` says and counts the requests that it was sent."""

    def __init__(self, tap, mode):
        self.mode, self.port, self.count, self.server, self.held = mode, free_port(), 0, None, []
        tap.ends.append(self.kill)

    @property
    def node(self):
        return {"host": "127.0.0.1", "port": self.port}

    async def start(self):
        if self.mode != "refuses":
            self.server = await asyncio.start_server(self.serve, "127.0.0.1", self.port, backlog=512)
        return self

    def kill(self):
        if self.server:
            self.server.close()
        for writer in self.held:
            writer.transport.abort()

    async def serve(self, reader, writer):
        self.held.append(writer)
        try:
            await reader.readuntil(b"\r\n\r\n")
            self.count += 1
            await getattr(self, self.mode.replace(" ", "_").replace("-", "_"))(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError, OSError):
            pass

    async def black_holes(self, reader, writer):
        await reader.read()

    async def resets_at_once(self, reader, writer):
        writer.transport.abort()

    async def answers_garbage(self, reader, writer):
        writer.write(b"\x16\x03\x01 this is not HTTP\r\n\r\n")
        await writer.drain()
        writer.close()

    async def answers_500(self, reader, writer):
        writer.write(b"HTTP/1.1 503 Busy\r\nContent-Length: 4\r\nConnection: close\r\n\r\nbusy")
        await writer.drain()
        writer.close()

    async def half_open(self, reader, writer):
        # Its side is shut, as after a crash of the machine's other half; ours stays.
        writer.write_eof()
        await reader.read()

    async def resets_mid_body(self, reader, writer):
        writer.write(b"HTTP/1.1 200 OK\r\nX-Upstream: bad\r\nContent-Length: 4000\r\n\r\n" + b"b" * 100)
        await writer.drain()
        await asyncio.sleep(0.02)
        writer.transport.abort()

    async def drips(self, reader, writer):
        writer.write(b"HTTP/1.1 200 OK\r\nX-Upstream: bad\r\nContent-Length: 4000\r\n\r\n")
        while True:
            writer.write(b"b")
            await writer.drain()
            await asyncio.sleep(0.05)


async def tell(tap):
    before_a_byte = ["refuses", "black holes", "resets at once", "answers garbage", "answers 500", "half-open"]
    for mode in before_a_byte + ["resets mid-body", "drips"]:
        await one(tap, mode, mode in before_a_byte)


async def one(tap, mode, before_a_byte):
    good = [await Backend(tap, "u").start() for _ in range(2)]
    bad = await Bad(tap, mode).start()
    nginx = await Nginx(
        tap,
        {
            "version": 1,
            "upstreams": [{
                # Not `adaptive`, which stops sending to a bad node before it has failed five times.
                "name": "u", "algorithm": "round_robin", "nodes": [bad.node, good[0].node, good[1].node],
                "timeouts": {"connect": "300ms", "send": "1s", "read": "300ms"}, "retries": {"budget": "20%"},
            }],
            "routes": [{"name": "all", "paths": ["/*"], "upstream": "u"}],
        },
    ).start()
    statuses, mixed, cuts, slowest = {}, 0, 0, 0.0
    deadline = time.monotonic() + 6
    asked = 0

    async def client(number):
        nonlocal mixed, cuts, slowest, asked
        turn = 0
        while time.monotonic() < deadline and turn < 60:
            turn += 1
            asked += 1
            began = time.monotonic()
            try:
                async with Client(nginx.port) as one:
                    answer = await asyncio.wait_for(one.get("/?size=4000"), 3)
            except (Cut, asyncio.TimeoutError, ConnectionError):
                cuts += 1
                continue
            finally:
                slowest = max(slowest, time.monotonic() - began)
            statuses[answer.status] = statuses.get(answer.status, 0) + 1
            mixed += answer.status == 200 and (b"b" in answer.body and b"x" in answer.body or len(answer.body) != 4000)
            await asyncio.sleep(0.005)

    await asyncio.gather(*(client(number) for number in range(4)))
    tap.ok(not mixed, f"{mode}: no client gets a mixed or a short body", f"{mixed} of {asked}")
    wrong = {status: count for status, count in statuses.items() if status not in (200, 502, 504)}
    tap.ok(not wrong, f"{mode}: what fails fails as 502 or 504", f"{statuses}, {cuts} cut")
    metrics = await nginx.metrics()
    out = story.total(metrics, "gateway_upstream_peers", upstream="u", state="ejected")
    if before_a_byte:
        failures = asked - statuses.get(200, 0)
        tap.ok(failures <= 3 and not cuts, f"{mode}: tried again elsewhere", f"{failures} of {asked} failed, {statuses}")
        tap.ok(out == 1, f"{mode}: the bad one is left alone")
        tries = bad.count if mode != "refuses" else 0
        tap.ok(tries <= 10, f"{mode}: after ten failures at most", f"it was sent {tries}")
        tap.ok(slowest < 1.5, f"{mode}: within the timeouts", f"the slowest took {slowest:.2f} s")
    else:
        sent = bad.count + sum(backend.count for backend in good)
        tap.ok(sent <= asked, f"{mode}: nothing is sent twice once an answer has begun", f"{sent} for {asked}")
        whole = statuses.get(200, 0)
        tap.ok(whole + cuts + sum(wrong.values()) + statuses.get(502, 0) + statuses.get(504, 0) == asked,
               f"{mode}: each request ended in one way")
        if mode == "resets mid-body":
            tap.ok(out == 1 and bad.count <= 10, f"{mode}: the bad one is left alone", f"it was sent {bad.count}")
    alarms = nginx.logged("alert", "emerg", "crit")
    tap.ok(not alarms, f"{mode}: nothing alarming in the log", *alarms[:3])
    nginx.stop()
    bad.kill()


story.main(tell)
