#!/usr/bin/env python3
"""Twenty malformed exchanges in HTTP/1.1 and twenty in HTTP/2 end the same way with the gateway in the way and without."""

import asyncio
import re
import struct

import story
from story import Backend, Nginx, until

# What is sent where %s is the path; the connection is then read until it ends or is silent.
HTTP1 = {
    "no version": b"GET %s\r\n\r\n",
    "an unknown version": b"GET %s HTTP/3.7\r\nHost: a\r\n\r\n",
    "a lower-case method": b"get %s HTTP/1.1\r\nHost: a\r\n\r\n",
    "no host": b"GET %s HTTP/1.1\r\n\r\n",
    "two hosts": b"GET %s HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    "a host with a slash": b"GET %s HTTP/1.1\r\nHost: a/b\r\n\r\n",
    "a header without a colon": b"GET %s HTTP/1.1\r\nHost: a\r\nX-A\r\nConnection: close\r\n\r\n",
    "a header without a name": b"GET %s HTTP/1.1\r\nHost: a\r\n: x\r\nConnection: close\r\n\r\n",
    "a space before the colon": b"GET %s HTTP/1.1\r\nHost: a\r\nX-A : x\r\nConnection: close\r\n\r\n",
    "a NUL in a value": b"GET %s HTTP/1.1\r\nHost: a\r\nX-A: a\0b\r\n\r\n",
    "a NUL in the target": b"GET %s\0 HTTP/1.1\r\nHost: a\r\n\r\n",
    "a folded header": b"GET %s HTTP/1.1\r\nHost: a\r\nX-A: a\r\n b\r\nConnection: close\r\n\r\n",
    "length and chunks": b"POST %s HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n0\r\n\r\n",
    "two lengths": b"POST %s HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
    "a negative length": b"POST %s HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n",
    "an unknown coding": b"POST %s HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n",
    "a bad size of a chunk": b"POST %s HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\nabc\r\n",
    "a chunk that is too long": b"POST %s HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\nabc\r\n",
    "a chunk without its end": b"POST %s HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabcX\r\n0\r\n\r\n",
    "a path that climbs out": b"GET %s/../../../x HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
    "a header that is too large": b"GET %s HTTP/1.1\r\nHost: a\r\nX-A: " + b"a" * 40_000 + b"\r\n\r\n",
}

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, PRIORITY, RST, SETTINGS, PUSH, PING, GOAWAY, WINDOW, CONTINUATION = range(10)
END_STREAM, END_HEADERS, PADDED = 1, 4, 8


def frame(kind, flags=0, stream=0, payload=b"", length=None):
    size = len(payload) if length is None else length
    return struct.pack(">I", size)[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def block(*pairs):
    """Headers, each a literal that nobody indexes (RFC 7541, 6.2.2)."""
    text = b""
    for name, value in pairs:
        text += b"\0" + bytes([len(name)]) + name + bytes([len(value)]) + value
    return text


def asked(path, *more, method=b"GET", without=()):
    usual = [(b":method", method), (b":scheme", b"http"), (b":path", path), (b":authority", b"a")]
    return block(*(pair for pair in usual if pair[0] not in without), *more)


def request(path, *more, flags=END_STREAM | END_HEADERS, stream=1, **options):
    return frame(HEADERS, flags, stream, asked(path, *more, **options))


OPEN = PREFACE + frame(SETTINGS)

# What follows the preface, by path.
HTTP2 = {
    "a request": request,
    "a preface of another kind": None,
    "settings with a length of 5": lambda path: frame(SETTINGS, payload=b"12345"),
    "settings of a stream": lambda path: frame(SETTINGS, stream=1),
    "an acknowledgement with content": lambda path: frame(SETTINGS, 1, payload=b"123456"),
    "a ping with a length of 7": lambda path: frame(PING, payload=b"1234567"),
    "a window that grows by nothing": lambda path: frame(WINDOW, payload=struct.pack(">I", 0)),
    "a window that grows too far": lambda path: frame(WINDOW, payload=struct.pack(">I", 0x7FFF_FFFF)),
    "headers of stream 0": lambda path: request(path, stream=0),
    "headers of an even stream": lambda path: request(path, stream=2),
    "data of an idle stream": lambda path: frame(DATA, END_STREAM, 1, b"abc"),
    "a reset of an idle stream": lambda path: frame(RST, 0, 1, struct.pack(">I", 8)),
    "a continuation of nothing": lambda path: frame(CONTINUATION, END_HEADERS, 1, asked(path)),
    "a promise": lambda path: frame(PUSH, END_HEADERS, 1, b"\0\0\0\2" + asked(path)),
    "a frame that is too long": lambda path: frame(DATA, 0, 1, b"", length=1 << 20),
    "padding beyond the frame": lambda path: frame(HEADERS, END_STREAM | END_HEADERS | PADDED, 1, b"\xff" + asked(path)),
    "an upper-case name": lambda path: request(path, (b"X-Upper", b"1")),
    "no path": lambda path: request(path, without=(b":path",)),
    "a path twice": lambda path: request(path, (b":path", path)),
    "an unknown pseudo-header": lambda path: request(path, (b":status", b"200")),
    "an index that does not exist": lambda path: frame(HEADERS, END_STREAM | END_HEADERS, 1, b"\xff\x7f"),
    "a body shorter than its length": lambda path: request(path, (b"content-length", b"9"), method=b"POST", flags=END_HEADERS)
    + frame(DATA, END_STREAM, 1, b"abc"),
    "a frame of an unknown kind, then a request": lambda path: frame(99, 0, 0, b"abc") + request(path),
}


async def read(port, sent, wait):
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    answer, ended = b"", False
    try:
        writer.write(sent)
        while True:
            piece = await asyncio.wait_for(reader.read(65_536), wait)
            if not piece:
                ended = True
                break
            answer += piece
    except asyncio.TimeoutError:
        pass
    except ConnectionError:
        ended = True
    finally:
        writer.close()
    return answer, ended


async def http1(port, path, text):
    answer, ended = await read(port, text.replace(b"%s", path), 1.5)
    statuses = re.findall(rb"HTTP/1\.[01] (\d{3})", answer)
    # In HTTP/0.9 the body is all that comes.
    return statuses or answer, ended


async def http2(port, path, make):
    sent = b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n" if make is None else OPEN + make(path)
    answer, ended = await read(port, sent, 1.0)
    told = []
    while len(answer) >= 9:
        length, kind, stream = int.from_bytes(answer[:3], "big"), answer[3], int.from_bytes(answer[5:9], "big")
        payload, answer = answer[9 : 9 + length], answer[9 + length :]
        if kind == HEADERS:
            # An indexed status, or a literal under an index (RFC 7541, 6.1 and 6.2).
            told.append(("headers", stream, payload[:1] if payload[0] & 0x80 else payload[:5]))
        elif kind == RST:
            told.append(("reset", stream, payload))
        elif kind == GOAWAY:
            told.append(("goaway", payload[4:8]))
    return told, ended


async def tell(tap):
    backend = await Backend(tap, "u").start()
    document = {
        "version": 1,
        "upstreams": [{"name": "u", "nodes": [backend.node]}],
        "routes": [{"name": "all", "paths": ["/*"], "upstream": "u"}],
    }
    off = f'location /off/ {{ proxy_pass http://127.0.0.1:{backend.port}; proxy_http_version 1.1; proxy_set_header Connection ""; }}'
    nginx = await Nginx(tap, document, server=off).start()

    for version, port, cases, run in (("HTTP/1.1", nginx.port, HTTP1, http1), ("HTTP/2", nginx.h2, HTTP2, http2)):
        on_and_off = await asyncio.gather(
            *(run(port, path, case) for case in cases.values() for path in (b"/on/a", b"/off/a"))
        )
        wrong = []
        for index, name in enumerate(cases):
            with_us, without = on_and_off[2 * index : 2 * index + 2]
            tap.note(f"{version}, {name}: {with_us}")
            if with_us != without:
                wrong.append(f"{name}: {with_us} with the gateway, {without} without")
        tap.ok(len(cases) >= 20 and not wrong, f"{len(cases)} exchanges in {version} end the same way", *wrong)

    async with story.Client(nginx.port) as client:
        answer = await client.get("/after")
    tap.ok(answer.status == 200, "and the next request is served")
    tap.ok(await until(lambda: not nginx.logged("alert", "crit", "emerg"), 1), "nothing is wrong in the log")


if __name__ == "__main__":
    story.main(tell)
