"""Runs a program in a sandbox with nothing but a NATS client, both ways: `req.` (asked) and `cmd.` (queued).

Needs nats-py and the environment of `.sandtrail/env`: NATS_URL, NATS_USER, NATS_PASSWORD, NATS_CA with TLS.
"""

import asyncio
import base64
import json
import os
import ssl
import uuid
from datetime import datetime, timedelta, timezone

import nats
from nats.aio.client import Client

TERMINAL = {
    "SandboxFinished",
    "SandboxTerminated",
    "SandboxTimedOut",
    "SandboxFailed",
    "SandboxLost",
}
PATIENCE_S = 60


def command_headers(command_id: str) -> dict[str, str]:
    """The id makes a re-send harmless: the same id and body have one effect, whatever happened to the first."""
    expires_at = datetime.now(timezone.utc) + timedelta(minutes=10)
    return {
        "Sandtrail-Command-Id": command_id,
        "Sandtrail-Expires-At": expires_at.isoformat(),
    }


async def ask(nc: Client, subject: str, body: dict) -> dict:
    """A request: the answer says that the command is committed, or why not."""
    reply = await nc.request(
        f"req.{subject}",
        json.dumps(body).encode(),
        timeout=PATIENCE_S,
        headers=command_headers(str(uuid.uuid4())),
    )
    return unwrap(json.loads(reply.data))


async def queue(nc: Client, subject: str, body: dict) -> dict:
    """A queued command: a PubAck means queued, the outcome comes on `out.<commandId>`. Sent again until it is seen."""
    command_id = str(uuid.uuid4())
    outcome = await nc.subscribe(f"out.{command_id}")
    await nc.flush()
    try:
        for _ in range(6):
            ack = await nc.request(
                f"cmd.{subject}",
                json.dumps(body).encode(),
                timeout=5,
                headers=command_headers(command_id),
            )
            assert "error" not in json.loads(ack.data), ack.data
            try:
                return unwrap(json.loads((await outcome.next_msg(timeout=10)).data))
            except nats.errors.TimeoutError:
                continue
        raise TimeoutError(f"no outcome of {subject}")
    finally:
        await outcome.unsubscribe()


def unwrap(reply: dict) -> dict:
    if "error" in reply:
        raise RuntimeError(f"{reply['error']['code']}: {reply['error']['message']}")
    return reply


async def read_output(nc: Client, exec_id: str) -> str:
    """Output is read in pieces, by offset; bulk goes over HTTP."""
    text = b""
    while True:
        body = {"execId": exec_id, "stream": "stdout", "offset": len(text)}
        reply = await nc.request("req.exec.output", json.dumps(body).encode(), timeout=PATIENCE_S)
        piece = unwrap(json.loads(reply.data))
        text += base64.b64decode(piece["dataBase64"])
        if piece["end"]:
            return text.decode()


async def follow(events: nats.aio.subscription.Subscription, sandbox_id: str) -> None:
    """Prints the sandbox's events, in order, until it has ended."""
    while True:
        event = json.loads((await events.next_msg(timeout=PATIENCE_S)).data)
        if event["stream"] != sandbox_id:
            continue
        print(f"  {event['position']:>6}  {event['type']}")
        if event["type"] in TERMINAL:
            return


async def life(nc: Client, send) -> None:
    """One sandbox, from create to its terminal event."""
    events = await nc.subscribe("evt.sandbox.>")
    await nc.flush()
    created = await send(nc, "sandbox.create", {"timeoutMs": 60_000, "tags": {"example": "python"}})
    sandbox_id = created["sandboxId"]
    program = {
        "sandboxId": sandbox_id,
        "argv": ["python3", "-c", "import sys; print(sum(map(int, sys.stdin)))"],
        "stdin": "inline",
        "stdinBase64": base64.b64encode(b"20\n22\n").decode(),
    }
    exec_id = (await send(nc, "sandbox.exec", program))["execId"]
    ended = await nc.request(
        "req.exec.wait",
        json.dumps({"execId": exec_id, "timeoutMs": 30_000}).encode(),
        timeout=PATIENCE_S,
    )
    unwrap(json.loads(ended.data))
    print(f"{sandbox_id} says {(await read_output(nc, exec_id)).strip()}")
    await send(nc, "sandbox.terminate", {"sandboxId": sandbox_id})
    await follow(events, sandbox_id)
    await events.unsubscribe()


async def main() -> None:
    user = os.environ["NATS_USER"]
    ca = os.environ.get("NATS_CA")
    nc = await nats.connect(
        os.environ["NATS_URL"],
        user=user,
        password=os.environ["NATS_PASSWORD"],
        # Of a system with TLS: whose word counts for the broker's certificate.
        tls=ssl.create_default_context(cafile=ca) if ca else None,
        # Replies come to an inbox that only this user may read.
        inbox_prefix=f"_INBOX.{user}".encode(),
    )
    print("asked (req.)")
    await life(nc, ask)
    print("queued (cmd.)")
    await life(nc, queue)
    await nc.drain()


if __name__ == "__main__":
    asyncio.run(main())
