#!/usr/bin/env python3
"""What /v1/openapi.json says against what is answered: schemathesis (`pip install schemathesis`, or $SCHEMATHESIS)."""

import asyncio
import os
import re
import shutil

import story
from story import Backend, Nginx

TOOL = os.environ.get("SCHEMATHESIS") or shutil.which("schemathesis")
TOKEN = "0123456789abcdef"
CHECKS = ["not_a_server_error", "status_code_conformance", "content_type_conformance", "response_headers_conformance",
          "response_schema_conformance"]


async def tell(tap):
    backend = await Backend(tap, "u").start()
    document = {"version": 1, "upstreams": [{"name": "u", "nodes": [backend.node], "breaker": {"failures": 3}}],
                "routes": [{"name": "all", "paths": ["/*"], "upstream": "u"}]}
    for mode in ("file", "api"):
        nginx = Nginx(tap, document, server="location /v1/ { gateway_admin token_file=TOKENS; }", zone="32m")
        tokens = nginx.folder / "tokens"
        tokens.write_text(f"ann {TOKEN}\n")
        tokens.chmod(0o600)
        text = nginx.conf.read_text().replace("TOKENS", str(tokens))
        more = f"gateway_config {nginx.file} mode={mode};\ngateway_state {nginx.folder}/state;"
        nginx.conf.write_text(text.replace(f"gateway_config {nginx.file};", more))
        await nginx.start()
        process = await asyncio.create_subprocess_exec(
            TOOL, "run", f"http://127.0.0.1:{nginx.port}/v1/openapi.json", "-H", f"Authorization: Bearer {TOKEN}",
            "--max-examples", "10", "--phases", "coverage,fuzzing", "--checks", ",".join(CHECKS),
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT, cwd=nginx.folder)
        said = (await process.communicate())[0].decode()
        summary = re.findall(r"^ +(?:Tested|\d+ generated).*|^=+ .*(?:passed|failure|error|warning).*=+$", said, re.M)
        tap.ok(process.returncode == 0, f"{mode} mode: as the page says", *summary, *([] if process.returncode == 0 else said.splitlines()[-60:]))
        nginx.stop()


if TOOL:
    story.main(tell, limit=300)
else:
    print("1..0 # SKIP schemathesis is not installed")
