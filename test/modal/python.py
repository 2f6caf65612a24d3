"""The main job by the official Python SDK, of the generation that MODAL_SANDBOX_V2 says. Prints what holds."""

import os
import re

import modal

generation = 1 if os.environ.get("MODAL_SANDBOX_V2") == "0" else 2
app = modal.App.lookup("sdk-python", create_if_missing=True)
image = modal.Image.debian_slim()


def holds(what):
    print(f"holds: {what}", flush=True)


sandbox = modal.Sandbox.create(
    "sleep",
    "600",
    app=app,
    image=image,
    secrets=[modal.Secret.from_dict({"PASSWORD": "swordfish"})],
    workdir="/tmp",
    timeout=300,
)
assert re.fullmatch("sb-[0-9A-Za-z]{22}" if generation == 1 else "sb-[0-9A-Z]{26}", sandbox.object_id)
holds("the id has the shape of its generation")

process = sandbox.exec("sh", "-c", "echo $PASSWORD; pwd; echo oops >&2; exit 3")
assert process.stdout.read() == "swordfish\n/tmp\n"
assert process.stderr.read() == "oops\n"
assert process.wait() == 3
holds("an exec has its output, its errors and its exit code")

process = sandbox.exec("cat")
process.stdin.write("one\n")
process.stdin.drain()
process.stdin.write("two\n")
process.stdin.write_eof()
process.stdin.drain()
assert process.stdout.read() == "one\ntwo\n"
assert process.wait() == 0
holds("what is written to stdin arrives, and its end too")

process = sandbox.exec("sh", "-c", "head -c 8388608 /dev/zero | tr '\\0' '\\377'", text=False)
assert process.stdout.read() == b"\xff" * 8388608
holds("8 MiB of bytes come out as they went in")

main = modal.Sandbox.create("sh", "-c", "echo from main; exit 7", app=app, image=image)
assert main.stdout.read() == "from main\n"
main.wait(raise_on_termination=False)
assert main.returncode == 7
holds("the main process has its output and its exit code")

assert modal.Sandbox.from_id(sandbox.object_id).poll() is None
holds("a sandbox is found by its id")

try:
    modal.Sandbox.create(app=app, image=image, encrypted_ports=[443])
    raise AssertionError("open ports are not refused")
except modal.exception.Error as error:
    assert "open_ports is not supported" in str(error), error
try:
    modal.Sandbox.create(app=app, image=image.pip_install("numpy"))
    raise AssertionError("a build is not refused")
except modal.exception.Error as error:
    assert "layers are not built yet" in str(error), error
holds("what is not there yet is refused, not ignored")

sandbox.terminate()
sandbox.wait(raise_on_termination=False)
assert sandbox.poll() == 137
holds("a sandbox ends when it is told to")
print(f"sandbox {sandbox.object_id}")
