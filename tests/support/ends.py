"""A function that ends in every way that is asked of it, and the words by which each end is told from every other."""

from hearth.executor.calls import TIMED_OUT

#: The action is in `x-action`, or else the path; without one the function answers `done`.
CODE = r"""
import ctypes, os, threading, time

def main(context):
    action = context.req.headers.get("x-action") or context.req.path.strip("/")
    context.log("asked for " + (action or "nothing"))
    print("last words of " + action, flush=True)
    if action == "exit":
        os._exit(7)
    elif action == "signal":
        ctypes.string_at(0)
    elif action == "memory":
        held = []
        while True:
            held.append(b"x" * (1 << 20))
    elif action == "timeout":
        time.sleep(60)
    elif action == "disk":
        with open("/tmp/full", "wb") as file:
            while True:
                file.write(bytes(1 << 20))
    elif action == "disk-caught":
        with open("/tmp/full", "wb", buffering=0) as file:
            try:
                while True:
                    file.write(bytes(1 << 20))
            except OSError as problem:
                os.write(2, str(problem).encode())
                os._exit(3)
    elif action == "threads":
        while True:
            threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
    elif action == "processes":
        try:
            while True:
                if os.fork() == 0:
                    time.sleep(60)
        except OSError:
            os._exit(4)
    elif action == "raise":
        raise ValueError("as asked")
    return context.res.text("done")
"""


def reasons(memory_mb: int) -> dict[str, str]:
    """What the errors of a run hold, by its action, where the function has that much memory."""
    return {
        "exit": "The function's process exited with code 7.\n",
        "signal": "The function's process was ended by SIGSEGV.\n",
        "memory": f"The function used more memory than its limit of {memory_mb} MB.\n",
        "timeout": f"{TIMED_OUT}\n",
        "disk": "on device\nIt had no space left: its folder /tmp holds 64 MB.\n",
        "disk-caught": "code 3. It had no space left: its folder /tmp holds 64 MB.\n",
        "threads": "It may have met its limit of 256 processes and threads.\n",
        "processes": "code 4. It had met its limit of 256 processes and threads.\n",
        "raise": "ValueError: as asked\n",
    }
