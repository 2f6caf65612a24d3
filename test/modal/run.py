"""For `modal run`: a local entrypoint that leaves its sandbox running. Its app ends with the program, and it with the app."""

import modal

app = modal.App("sdk-run")


@app.local_entrypoint()
def main():
    sandbox = modal.Sandbox.create("sleep", "600", app=app, image=modal.Image.debian_slim())
    assert sandbox.exec("echo", "from modal run").stdout.read() == "from modal run\n"
    print(f"sandbox {sandbox.object_id}", flush=True)
