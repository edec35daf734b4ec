#!/usr/bin/env python3
"""Thousands of clients go away at random moments: nothing of theirs stays."""

import asyncio
import random
import socket
import struct

import story
from story import Backend, Client, Load, Nginx, total, until

ABORTS = 4000
AT_ONCE = 64


def document(backend, bad):
    return {
        "version": 1,
        "limiters": [{"name": "wide", "key": ["ip"], "rate": "100000/s", "burst": 100000}],
        "upstreams": [
            {"name": "u", "nodes": [backend.node], "breaker": {"failures": 10, "window": "10s", "open_for": "1s"}},
            {"name": "bad", "nodes": [bad.node], "retries": {"attempts": 1},
             "breaker": {"failures": 10, "window": "10s", "open_for": "2s", "probes": 5, "closes_after": 5}},
        ],
        "routes": [{"name": "all", "paths": ["/*"], "upstream": "u", "limits": ["wide"]},
                   {"name": "bad", "paths": ["/bad"], "upstream": "bad"}],
    }


async def http1(port, kind):
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        if kind == "header":
            writer.write(b"GET /half HTTP/1.1\r\nHost: st")
            await asyncio.sleep(random.random() * 0.01)
        elif kind == "body":
            writer.write(b"POST /body HTTP/1.1\r\nHost: story\r\nContent-Length: 50000\r\n\r\n" + b"x" * random.randrange(49_000))
            await asyncio.sleep(random.random() * 0.02)
        elif kind == "work":
            writer.write(b"GET /work?ms=40 HTTP/1.1\r\nHost: story\r\n\r\n")
            await asyncio.sleep(random.random() * 0.05)
        elif kind == "response":
            writer.write(b"GET /large?size=600000 HTTP/1.1\r\nHost: story\r\n\r\n")
            await reader.read(random.randrange(1, 100_000))
        elif kind == "between":
            # Answered, with a second request behind it that nobody waits for.
            writer.write(b"GET /one HTTP/1.1\r\nHost: story\r\n\r\nGET /two?ms=20 HTTP/1.1\r\nHost: story\r\n\r\n")
            await reader.read(1000)
        go(writer)
    except OSError:
        writer.transport.abort()


def go(writer):
    """Away, by an end or by a reset."""
    if random.random() < 0.5:
        sock = writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


def frame(kind, flags, stream, payload=b""):
    return struct.pack(">I", len(payload))[1:] + bytes((kind, flags)) + struct.pack(">I", stream) + payload


def headers(method, path, stream, end):
    """HPACK without compression: indexed :method and :scheme, literal :path and :authority."""
    text = lambda index, value: bytes((index, len(value))) + value
    block = (b"\x82" if method == "GET" else b"\x83") + b"\x86" + text(4, path) + text(1, b"story")
    return frame(1, 4 | end, stream, block)


async def http2(port, kind):
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        out = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4, 0, 0)
        for stream in (1, 3, 5):
            if kind == "body":
                out += headers("POST", b"/h2", stream, 0) + frame(0, 0, stream, b"x" * random.randrange(1, 10_000))
            else:
                out += headers("GET", b"/h2?ms=40" if kind == "work" else b"/h2?size=300000", stream, 1)
        writer.write(out)
        await asyncio.sleep(random.random() * 0.05)
        if random.random() < 0.5:
            # RST_STREAM, CANCEL; the connection lives on for a moment.
            writer.write(b"".join(frame(3, 0, stream, struct.pack(">I", 8)) for stream in (1, 3, 5)))
            await asyncio.sleep(random.random() * 0.01)
        go(writer)
    except OSError:
        writer.transport.abort()


async def tell(tap):
    seed = random.randrange(1 << 32)
    random.seed(seed)
    tap.note(f"seed {seed}")
    backend, bad = await Backend(tap, "u").start(), await Backend(tap, "bad").start()
    nginx = await Nginx(tap, document(backend, bad)).start()
    for client in (await nginx.one_client_each()).values():
        client.close()

    async def settled():
        """No request in flight and no client connected: the descriptors that are left are the workers' own."""
        return total(await nginx.metrics(), "gateway_active_connections") == 0

    async def base():
        # Kept connections to the backend are not leaks: the backend ends them.
        for each in (backend, bad):
            for transport in list(each.connections):
                transport.close()
        await asyncio.sleep(0.3)
        return nginx.files()

    before, pids = await base(), nginx.worker_pids()
    kinds = [(http1, kind, nginx.port) for kind in ("header", "body", "work", "response", "between")]
    kinds += [(http2, kind, nginx.h2) for kind in ("body", "work", "response")]
    left = iter(range(ABORTS))

    async def rude():
        for _ in left:
            call, kind, port = random.choice(kinds)
            await call(port, kind)

    polite = Load(nginx.port, 4, pause=0.002).start()
    await asyncio.gather(*(rude() for _ in range(AT_ONCE)))
    await polite.stop()
    tap.ok(not polite.bad and not polite.cuts, f"{ABORTS} aborts: the polite are served", polite.summary())
    tap.ok(await until(settled, 5), "nothing is in flight any more",
           total(await nginx.metrics(), "gateway_active_connections"))
    tap.ok(await until(lambda: backend.in_flight == 0, 5), "nor at the backend", backend.in_flight)
    for _ in range(10):
        now = await base()
        if now == before:
            break
    tap.ok(now == before, "descriptors are back to what they were", f"{before} {now}")
    state = total(await nginx.metrics(), "gateway_circuit_breaker_state", upstream="u")
    tap.ok(state == 0, "aborts are no failures: the breaker stays closed", state)

    # Probes of clients that go away are given back at once, not when their time is over.
    bad.status = 500
    async with Client(nginx.port) as client:
        opened = [(await client.get("/bad")).status for _ in range(10)]
        await nginx.breaker("bad", "open")
        opened.append((await client.get("/bad")).status)
        bad.status = 200
        await asyncio.sleep(2.1)
        passed = bad.count
        for _ in range(4):
            held = [Client(nginx.port) for _ in range(5)]
            tasks = [asyncio.create_task(one.get("/bad?ms=30000")) for one in held]
            got = await until(lambda: bad.in_flight == 5, 1)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            if not got or not await until(lambda: bad.in_flight == 0, 1):
                break
        tap.ok(opened[-1] == 503 and bad.count - passed == 20, "every aborted probe gives its place back",
               f"{bad.count - passed} of 20 reached the backend")
        healed = [(await client.get("/bad")).status for _ in range(6)]
        tap.ok(healed == [200] * 6, "and the breaker closes", healed)
    tap.ok(nginx.worker_pids() == pids, "the workers are the same", pids)
    strange = nginx.logged("alert", "emerg", "crit")
    tap.ok(not strange, "no alert", *strange[:5])


story.main(tell)
