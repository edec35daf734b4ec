#!/usr/bin/env python3
"""gatewayctl against a gateway that runs: what a person does with it, and what it says."""

import asyncio
import json
import os
from pathlib import Path

import story
from story import Backend, Load, Nginx

TOKEN = "0123456789abcdef"
PLACES = [Path(story.MODULE).parent / "gatewayctl", *(
    Path(__file__).resolve().parents[2] / "target" / place / "gatewayctl" for place in ("debug", "release"))]


def document(*backends):
    return {
        "version": 1,
        "upstreams": [{"name": "u", "nodes": [backend.node for backend in backends], "breaker": {"failures": 5}}],
        "routes": [{"name": "all", "paths": ["/*"], "upstream": "u"},
                   {"name": "split", "paths": ["/split"], "upstream": "u", "canary": {
                       "variants": [{"name": "old", "upstream": "u", "weight": 90},
                                    {"name": "new", "upstream": "u", "weight": 10}]}}],
    }


async def tell(tap):
    tool = next((place for place in PLACES if os.access(place, os.X_OK)), None)
    if not tool:
        tap.ok(True, "# SKIP there is no gatewayctl beside the module")
        return
    one, two = await Backend(tap, "one").start(), await Backend(tap, "two").start()
    first = document(one, two)
    nginx = Nginx(tap, first, server="location /v1/ { gateway_admin token_file=TOKENS; }")
    tokens = nginx.folder / "tokens"
    tokens.write_text(f"ann {TOKEN}\n")
    tokens.chmod(0o600)
    text = nginx.conf.read_text().replace("TOKENS", str(tokens))
    text = text.replace(f"gateway_config {nginx.file};",
                        f"gateway_config {nginx.file} mode=api;\ngateway_state {nginx.folder}/state;")
    nginx.conf.write_text(text)
    await nginx.start()

    async def ctl(*words, stdin=b"", token=f"--token-file={tokens}"):
        process = await asyncio.create_subprocess_exec(
            tool, f"--url=http://127.0.0.1:{nginx.port}", *([token] if token else []), *words,
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE)
        out, err = await asyncio.wait_for(process.communicate(stdin), 20)
        return process.returncode, out.decode(), err.decode()

    def file(name, content):
        path = nginx.folder / name
        path.write_text(content if isinstance(content, str) else json.dumps(content, indent=1))
        return str(path)

    code, out, err = await ctl("status")
    tap.ok(code == 0 and "generation:" in out and "routes: 2" in out, "status", out, err)
    code, out, err = await ctl("get", "routes")
    tap.ok(code == 0 and [line.split()[0] for line in out.splitlines()] == ["NAME", "all", "split"], "get routes", out, err)
    code, out, err = await ctl("get", "upstreams", "u", "--json")
    tap.ok(code == 0 and json.loads(out)["name"] == "u", "get one, for programs", out, err)
    code, out, err = await ctl("get", "routes", "none")
    tap.ok(code == 1 and "404 admin.not_found" in err, "what is not there is a refusal", code, err)
    code, out, err = await ctl("get", "nonsense")
    tap.ok(code == 1 and "404" in err, "so is a kind that is none", code, err)

    second = document(one, two)
    second["routes"].append({"name": "more", "paths": ["/more"], "upstream": "u"})
    second["routes"][0]["labels"] = {"a": "b"}
    path = file("second.json", second)
    code, out, err = await ctl("diff", path)
    tap.ok(code == 1 and out.splitlines() == ["~ routes all: labels", "+ routes more"], "diff says what would change", code, out, err)
    code, out, err = await ctl("apply", path, "--dry-run")
    tap.ok(code == 0 and "+ routes more" in out and (await ctl("get", "routes", "more"))[0] == 1, "a dry run changes nothing", out, err)
    code, out, err = await ctl("apply", path)
    tap.ok(code == 0 and "revision" in out and (await ctl("get", "routes", "more"))[0] == 0, "apply", out, err)
    code, out, err = await ctl("diff", path)
    tap.ok((code, out) == (0, ""), "and then there is no difference", code, out, err)
    bad = file("bad.yaml", "version: 1\nroutes:\n  - name: x\n    pats: [/x]\n")
    code, out, err = await ctl("apply", bad)
    tap.ok(code == 1 and f"{bad}:4: routes[0]" in err and "did you mean `paths`" in err,
           "a bad document: its file, line, path and what would be right", code, err)
    code, out, err = await ctl("apply", file("one.json", {"paths": ["/one"], "upstream": "u"}), "routes", "one")
    tap.ok(code == 0 and "+ routes one" in out, "apply one resource", code, out, err)
    code, out, err = await ctl("delete", "routes", "one")
    tap.ok(code == 0 and (await ctl("get", "routes", "one"))[0] == 1, "delete", out, err)
    code, out, err = await ctl("revisions")
    numbers = [int(line.split()[0]) for line in out.splitlines()[1:] if line.split()[0].isdigit()]
    tap.ok(code == 0 and "REVISION" in out and len(out.splitlines()) >= 5, "revisions", out, err)
    code, out, err = await ctl("rollback", "1")
    tap.ok(code == 0 and (await ctl("get", "routes", "more"))[0] == 1, "rollback", out, err, numbers)

    node = f"127.0.0.1:{one.port}"
    code, out, err = await ctl("drain", "u", node)
    count = one.count
    load = Load(nginx.port, 4).start()
    await asyncio.sleep(0.5)
    code, out, err = await ctl("top", "--once")
    await load.stop()
    lines = {line.split()[1]: line.split()[2] for line in out.splitlines()[1:]}
    tap.ok(code == 0 and one.count == count and lines == {node: "drained", f"127.0.0.1:{two.port}": "serves"},
           "a drained node is sent nothing, and top shows it", one.count - count, out, err)
    code, out, err = await ctl("overlays")
    tap.ok(code == 0 and node in out, "overlays", out, err)
    code, out, err = await ctl("undrain", "u", node)
    tap.ok(code == 0 and node not in (await ctl("overlays"))[1], "undrain", out, err)
    code, out, err = await ctl("breaker", "u", "open")
    state = (await ctl("breakers"))[1]
    tap.ok(code == 0 and "forced-open" in state, "breaker", state, err)
    await ctl("breaker", "u", "auto")
    code, out, err = await ctl("canary", "split", "set", "40%")
    share = (await ctl("canary", "split"))[1]
    tap.ok(code == 0 and "percent: 40" in share, "canary", share, err)
    code, out, err = await ctl("ban", "192.0.2.0/24", "--for", "1h", "--reason", "story")
    tap.ok(code == 0 and "192.0.2.0" in (await ctl("overlays"))[1], "ban", out, err)
    code, out, err = await ctl("revoke", "jti", "-", "--for=1h", stdin=b"t-1\n")
    tap.ok(code == 0, "revoke, the value from standard input", out, err)
    code, out, err = await ctl("purge", "all")
    tap.ok(code == 1 and "nothing of that name is cached" in err, "purge: where nothing is cached there is nothing to forget", out, err)

    code, out, err = await ctl("status", token="--token-file=" + file("wrong", "ann wrongwrongwrong\n"))
    tap.ok(code == 1 and "401 admin.token" in err and "wrong" not in err.replace("/wrong", ""), "a wrong token is a refusal, and not shown", err)
    code, out, err = await ctl("status", token=None)
    tap.ok(code == 2 and "--token-file" in err, "no token", err)
    code, out, err = await ctl("status", "--url=http://127.0.0.1:1")
    tap.ok(code == 2 and "http://127.0.0.1:1" in err, "nobody there", code, err)
    tap.ok(TOKEN not in nginx.log(), "the token is in no log")


story.main(tell)
