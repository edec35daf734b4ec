#!/usr/bin/env python3
"""Twenty thousand clients go away at every wait, in HTTP/1 and HTTP/2: nothing of theirs stays.

`ABORTS=100000` makes as many. No request waits for an issuer's keys, so what is tried there is that it does not.
"""

import asyncio
import base64
import hashlib
import hmac
import os
import random
import socket
import struct
import time
from collections import Counter

import story
from story import Backend, Client, Load, Nginx, free_port, total, until

ABORTS = int(os.environ.get("ABORTS", 20_000))
AT_ONCE = 48
STREAMS = 8
# So many requests a node takes at once; afterwards as many have to find room.
ROOM = 250
PROBES = 5
SECRET = os.environ["STORY_SECRET"] = "a secret that is longer than 32 bytes"
SIGNED = b"s" * 20_000
# openssl passwd -6 -salt saltsalt right
HASH = "$6$saltsalt$gzY3OAolfMFSB9Ld7iMdOQlViFqO3IOPeU0zkHsD.58tcMxRAFD0Qjfi2sjus3i.8aqWarEvFPREqzp18Jm291"


def document(nodes):
    retries = {"attempts": 3, "on": ["http_503", "timeout", "error"], "per_try_timeout": "15ms", "budget": "100%"}
    breaker = {"failures": 10, "window": "10s", "open_for": "2s", "probes": PROBES, "closes_after": PROBES}
    overload = {"mode": "enforce", "min": 5000, "max": 5000}
    routes = {
        "all": {"paths": ["/*"]},
        "bad": {"paths": ["/bad"], "upstream": "bad"},
        "signed": {"paths": ["/signed"], "auth": ["signed"]},
        "password": {"paths": ["/password"], "auth": ["password"]},
        "keys": {"paths": ["/keys"], "auth": ["keys"]},
        "connect": {"paths": ["/connect"], "upstream": "hole"},
        "tries": {"paths": ["/tries"], "upstream": "tries"},
        "mirror": {"paths": ["/mirror"], "canary": {"variants": [{"name": "a", "weight": 1}, {"name": "b", "weight": 0}],
                                                    "mirror": {"upstream": "copies"}}},
        "cached": {"paths": ["/cached/*"], "cache": {"zone": "c", "ttl": "1s", "lock": "5s"}},
    }
    return {
        "version": 1,
        "limiters": [{"name": "wide", "key": ["ip"], "rate": "100000/s", "burst": 100000}],
        "consumers": [{"name": "ann"}],
        "auth": [
            {"name": "signed", "signature": {"keys": [{"keyid": "k", "alg": "hmac-sha256", "secret": "$env://STORY_SECRET",
                                                       "consumer": "ann"}]}},
            {"name": "password", "basic": {"users": {"ann": HASH}}},
            {"name": "keys", "jwt": {"issuer": "i", "audience": "a",
                                     "jwks": {"url": f"http://127.0.0.1:{nodes['issuer'].port}/keys"}}},
        ],
        "upstreams": [
            {"name": "u", "nodes": [nodes["u"].node], "overload": overload, "breaker": breaker, "max_in_flight": ROOM,
             "max_ejection_percent": 100},
            {"name": "bad", "nodes": [nodes["bad"].node], "retries": {"attempts": 1}, "breaker": breaker},
            {"name": "hole", "nodes": [nodes["hole"].node], "overload": overload, "timeouts": {"connect": "100ms"}},
            {"name": "tries", "nodes": [nodes["busy"].node, nodes["slow"].node], "retries": retries,
             "algorithm": "round_robin", "max_ejection_percent": 0, "overload": overload},
            {"name": "copies", "nodes": [nodes["copies"].node], "overload": overload},
        ],
        "routes": [{"name": name, "upstream": "u", "limits": ["wide"], "max_in_flight": 5000, **route}
                   for name, route in routes.items()],
    }


class Hole:
    """Takes no connection: the one place in its queue is taken, and the kernel drops what comes then."""

    def __init__(self, tap):
        self.port = free_port()
        self.listener, self.place = socket.socket(), socket.socket()
        self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.listener.bind(("127.0.0.1", self.port))
        self.listener.listen(0)
        self.place.connect(("127.0.0.1", self.port))
        tap.ends.append(self.listener.close)

    @property
    def node(self):
        return {"host": "127.0.0.1", "port": self.port}


def signature():
    """Headers of a request that is signed: only its body has still to come."""
    digest = "sha-256=:" + base64.b64encode(hashlib.sha256(SIGNED).digest()).decode() + ":"
    covered = '("@method" "@target-uri" "content-digest")'
    covered += f';created={int(time.time())};nonce="{random.randrange(1 << 60)}";keyid="k"'
    text = f'"@method": POST\n"@target-uri": http://story/signed\n"content-digest": {digest}\n"@signature-params": {covered}'
    made = base64.b64encode(hmac.digest(SECRET.encode(), text.encode(), "sha256")).decode()
    return {"content-digest": digest, "signature-input": f"s={covered}", "signature": f"s=:{made}:"}


def basic():
    return {"authorization": "Basic " + base64.b64encode(f"ann:{random.randrange(1 << 40)}".encode()).decode()}


def bearer():
    part = lambda text: base64.urlsafe_b64encode(text).decode().rstrip("=")
    head = b'{"alg":"ES256","kid":"%d"}' % random.randrange(1 << 30)
    return {"authorization": f"Bearer {part(head)}.{part(b'{}')}.{part(bytes(64))}"}


# Where a client goes away: path, headers, length of the body, how much of it is sent at most, and how many seconds it
# stays at most.
WAITS = {
    "the body comes": ("/body", dict, 50_000, 49_000, 0.02),
    "the body is passed on": ("/stream/body", dict, 50_000, 49_000, 0.02),
    "the body is hashed": ("/signed", signature, len(SIGNED), len(SIGNED), 0.02),
    "a password is looked at": ("/password", basic, 0, 0, 0.03),
    "there are no keys": ("/keys", bearer, 0, 0, 0.001),
    "connecting": ("/connect", dict, 0, 0, 0.06),
    "the first byte": ("/work?ms=40", dict, 0, 0, 0.05),
    "between tries": ("/tries?ms=10", dict, 0, 0, 0.06),
    "the answer comes": ("/large?size=600000", dict, 0, 0, 0.02),
    "a copy is under way": ("/mirror?ms=2", dict, 0, 0, 0.04),
    "a copy of a body": ("/mirror?ms=2", dict, 3000, 3000, 0.04),
    "another one fetches it": ("/cached/1?ms=40", dict, 0, 0, 0.05),
}


def body(length, most):
    return b"s" * (random.randrange(most + 1) if random.random() < 0.7 else most)


async def http1(port, wait):
    path, headers, length, most, longest = WAITS[wait]
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        head = f"{'POST' if length else 'GET'} {path} HTTP/1.1\r\nHost: story\r\n"
        head += "".join(f"{name}: {value}\r\n" for name, value in headers().items())
        head += f"Content-Length: {length}\r\n\r\n" if length else "\r\n"
        sent = head.encode() + body(length, most)
        which = random.random()
        if which < 0.05:
            # In the header.
            sent = sent[: random.randrange(1, len(head))]
        elif which < 0.15 and not length:
            # With a second one behind it that nobody waits for.
            sent *= 2
        writer.write(sent)
        await asyncio.sleep(random.random() * longest)
    except OSError:
        pass
    # By an end or by a reset.
    if random.random() < 0.5:
        sock = writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
    return 1


def frame(kind, flags, stream, payload=b""):
    return struct.pack(">I", len(payload))[1:] + bytes((kind, flags)) + struct.pack(">I", stream) + payload


def text(value):
    """A string literal (RFC 7541, 5.2) without Huffman's code."""
    size, value = len(value), value.encode()
    if size < 127:
        return bytes((size,)) + value
    size, out = size - 127, b"\x7f"
    while size >= 128:
        out, size = out + bytes((size % 128 + 128,)), size // 128
    return out + bytes((size,)) + value


def asked(stream, wait):
    """A request: indexed :method and :scheme, literal :path, :authority and the rest (RFC 7541, 6.1 and 6.2.2)."""
    path, headers, length, most, _ = WAITS[wait]
    block = (b"\x83" if length else b"\x82") + b"\x86\x04" + text(path) + b"\x01" + text("story")
    for name, value in headers().items():
        block += b"\0" + text(name) + text(value)
    out = frame(1, 4 if length else 5, stream, block)
    data = body(length, most)
    for start in range(0, len(data), 16_384):
        out += frame(0, start + 16_384 >= length == len(data), stream, data[start : start + 16_384])
    return out


async def http2(port):
    """Some streams that are reset (CANCEL), some more on the same connection, and some that go with it."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    done, stream = 0, 1
    try:
        writer.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4, 0, 0))
        for last in (False, False, True):
            waits = random.choices(list(WAITS), k=STREAMS)
            streams = list(range(stream, stream + 2 * STREAMS, 2))
            stream += 2 * STREAMS
            writer.write(b"".join(asked(*each) for each in zip(streams, waits)))
            done += STREAMS
            for each, wait in zip(streams, waits):
                await asyncio.sleep(random.random() * WAITS[wait][4] / STREAMS * 2)
                if not last:
                    writer.write(frame(3, 0, each, struct.pack(">I", 8)))
    except OSError:
        pass
    writer.transport.abort()
    return done


async def silent(reader, writer):
    """An issuer that does not answer."""
    try:
        while await reader.read(1000):
            pass
    except (OSError, asyncio.CancelledError):
        pass
    finally:
        writer.close()


async def tell(tap):
    seed = random.randrange(1 << 32)
    random.seed(seed)
    tap.note(f"seed {seed}")
    nodes = {name: await Backend(tap, name).start() for name in ("u", "bad", "busy", "slow", "copies")}
    nodes["busy"].status, nodes["slow"].delay, nodes["copies"].delay = 503, 0.03, 0.03
    nodes["hole"], nodes["issuer"] = Hole(tap), Backend(tap, "issuer")
    nodes["issuer"].server = await asyncio.start_server(silent, "127.0.0.1", nodes["issuer"].port)
    nginx = Nginx(
        tap, document(nodes), connections=4096,
        http="proxy_cache_path cache levels=1 keys_zone=c:1m inactive=1h;",
        server="""
            location /stream/ { gateway_pass gateway; proxy_request_buffering off; }
            location /cached/ { gateway_pass gateway; proxy_cache $gateway_cache; proxy_cache_key $gateway_cache_key; }
        """,
    )
    await nginx.start()
    for client in (await nginx.one_client_each()).values():
        client.close()
    u, bad = nodes["u"], nodes["bad"]
    gauges = ("gateway_active_connections", "gateway_route_in_flight", "gateway_overload_in_flight")

    async def held():
        metrics = await nginx.metrics()
        return {name: total(metrics, name) for name in gauges}

    async def base():
        # Kept connections to backends are not leaks: the backends end them.
        for each in nodes.values():
            for transport in list(getattr(each, "connections", ())):
                transport.close()
        await asyncio.sleep(0.3)
        return nginx.files()

    pids, made, by = nginx.worker_pids(), 0, Counter()

    async def rude(until_made):
        nonlocal made
        while made < until_made:
            version = 1 if by[1] <= by[2] else 2
            if version == 1:
                wait = random.choice(list(WAITS))
                by[wait] += 1
                count = await http1(nginx.port, wait)
            else:
                count = await http2(nginx.h2)
            made += count
            by[version] += count

    async def crowd(until_made):
        await asyncio.gather(*(rude(until_made) for _ in range(AT_ONCE)))
        quiet = lambda: not any(each.in_flight for each in nodes.values() if isinstance(each, Backend))
        if not await until(quiet, 10):
            tap.note({name: each.in_flight for name, each in nodes.items() if isinstance(each, Backend)})

        async def none():
            return not any((await held()).values())

        return await until(none, 10)

    # Buffers that a worker will keep for good are got, workers' threads run.
    before = await base()
    began = time.monotonic()
    await crowd(ABORTS // 4)
    early = nginx.memory()
    polite = Load(nginx.port, 4, pause=0.002).start()
    nothing = await crowd(ABORTS)
    await polite.stop()
    took, late = time.monotonic() - began, nginx.memory()
    tap.note(f"{made} aborts in {took:.1f} s: {by[1]} in HTTP/1, {by[2]} in HTTP/2; HTTP/1: "
             + ", ".join(f"{by[wait]} {wait}" for wait in WAITS))
    tap.ok(made >= ABORTS and not polite.bad and not polite.cuts, f"{made} aborts: the polite are served", polite.summary())
    tap.ok(all(nodes[name].count for name in ("u", "busy", "slow", "copies")), "every backend was reached",
           {name: nodes[name].count for name in ("u", "busy", "slow", "copies")})
    tap.ok(nothing, "nothing is in flight any more", await held())
    tap.ok(not any(each.in_flight for each in nodes.values() if isinstance(each, Backend)), "nor at the backends")
    for _ in range(20):
        now = await base()
        # The thread that looks at passwords has an eventfd, made when it is first asked.
        if all(now[pid] <= before[pid] + 1 for pid in pids):
            break
    tap.ok(now.keys() == before.keys() and all(now[pid] <= before[pid] + 1 for pid in pids),
           "descriptors are back to what they were", f"{before} {now}")
    left = [file for file in (nginx.folder / "body").rglob("*") if file.is_file()]
    tap.ok(not left, "no temporary file of a body stays", *left[:5])
    grown = {pid: late[pid] - early[pid] for pid in pids if pid in early}
    # Under ASAN what is freed is kept for a while.
    if "ASAN_OPTIONS" not in os.environ:
        tap.ok(max(grown.values()) <= 4096, "three quarters of them took no more memory than the first quarter",
               f"{early} kB, then {late} kB")
    metrics = await nginx.metrics()
    states = {name: total(metrics, "gateway_circuit_breaker_state", upstream=name) for name in ("u", "bad")}
    tap.ok(not any(states.values()), "aborts are no failures: the breakers stay closed", states)
    blamed = total(metrics, "gateway_peer_ejections_total", upstream="u")
    tap.ok(not blamed, "nor is the node of an answer that nobody waited for ejected", blamed)

    # A place that an abort had kept would be missing now.
    u.peak = 0
    clients = [Client(nginx.port) for _ in range(ROOM)]
    answers = await asyncio.gather(*(client.get("/all?ms=2000") for client in clients), return_exceptions=True)
    for client in clients:
        client.close()
    statuses = Counter(answer.status if hasattr(answer, "status") else repr(answer) for answer in answers)
    tap.ok(statuses == {200: ROOM} and u.peak == ROOM, f"the node has all its {ROOM} places again", dict(statuses), u.peak)

    # Probes of clients that go away are given back at once, not when their time is over.
    bad.status = 500
    async with Client(nginx.port) as client:
        opened = [(await client.get("/bad")).status for _ in range(10)]
        await nginx.breaker("bad", "open")
        opened.append((await client.get("/bad")).status)
        bad.status = 200
        await asyncio.sleep(2.1)
        passed = bad.count
        for turn in range(4):
            if turn % 2:
                got = await until(lambda: probes_h2(nginx.h2, bad), 1)
            else:
                got = await until(lambda: probes_h1(nginx.port, bad), 1)
            if not got or not await until(lambda: bad.in_flight == 0, 1):
                break
        tap.ok(opened[-1] == 503 and bad.count - passed == 4 * PROBES, "every aborted probe gives its place back",
               f"{bad.count - passed} of {4 * PROBES} reached the backend")
        healed = [(await client.get("/bad")).status for _ in range(PROBES + 1)]
        tap.ok(healed == [200] * (PROBES + 1), "and the breaker closes", healed)
    tap.ok(nginx.worker_pids() == pids, "the workers are the same", pids)
    strange = nginx.logged("alert", "emerg", "crit")
    tap.ok(not strange, "no alert", *strange[:5])


async def probes_h1(port, bad):
    """Every probe's place is taken, then all go away."""
    clients = [Client(port) for _ in range(PROBES)]
    tasks = [asyncio.create_task(client.get("/bad?ms=30000")) for client in clients]
    got = await until(lambda: bad.in_flight == PROBES, 1)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return got


async def probes_h2(port, bad):
    """The same by RST_STREAM; the connection stays until the backend has seen it."""
    WAITS["a probe"] = ("/bad?ms=30000", dict, 0, 0, 0)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    streams = range(1, 2 * PROBES, 2)
    writer.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4, 0, 0) + b"".join(asked(each, "a probe") for each in streams))
    got = await until(lambda: bad.in_flight == PROBES, 1)
    writer.write(b"".join(frame(3, 0, each, struct.pack(">I", 8)) for each in streams))
    await until(lambda: bad.in_flight == 0, 1)
    writer.transport.abort()
    return got


story.main(tell)
