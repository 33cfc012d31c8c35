"""What untrusted code does to use up a machine, or to stay: cases of `probe.py` that it looks for here."""

import ctypes
import errno
import json
import os
import time


def eat_memory(args):
    """Allocate and touch memory without end (bounded by the test); tells the amount as it goes."""
    kept = []
    if args.get("tmp"):
        fd = os.open("/tmp/fill", os.O_WRONLY | os.O_CREAT)
        for _ in range(args["tmp"]):
            os.write(fd, b"z" * (1 << 20))
            tell(1)
    if args.get("in_child"):
        pid = os.fork()
        if pid:
            os.waitpid(pid, 0)
            time.sleep(20)
            return {"parent": "went on"}
    for _ in range(args["bound"]):
        kept.append(bytearray(os.urandom(1 << 20)))
        tell(1)
    return {"end": "bound"}


def tell(mebibytes):
    os.write(1, b"." * mebibytes)


def fork_bomb(args):
    children = 0
    end = "bound"
    for _ in range(args["bound"]):
        try:
            pid = os.fork()
        except OSError as problem:
            end = errno.errorcode[problem.errno]
            break
        if pid == 0:
            os.setsid()
            time.sleep(60)
            os._exit(0)
        children += 1
    return {"children": children, "end": end}


def thread_bomb(args):
    import threading

    threads = 0
    try:
        for _ in range(args["bound"]):
            threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
            threads += 1
        end = "bound"
    except RuntimeError:
        end = "refused"
    print(json.dumps({"threads": threads, "end": end}), flush=True)
    os._exit(0)


def burn(args):
    """Busy loops in several processes for some seconds of wall time."""
    end = time.monotonic() + args["seconds"]
    for _ in range(args["processes"] - 1):
        if os.fork() == 0:
            break
    while time.monotonic() < end:
        sum(range(1000))
    os._exit(0)


def linger(args):
    """Daemons that ignore every signal and outlive their parent."""
    import signal

    for number in range(1, 32):
        if number not in (9, 19):
            signal.signal(number, signal.SIG_IGN)
    for kind in ("busy", "stopped", "asleep"):
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                if kind == "stopped":
                    os.kill(os.getpid(), signal.SIGSTOP)
                while True:
                    if kind != "busy":
                        time.sleep(0.05)
            os._exit(0)
    print(json.dumps({"ready": True}), flush=True)
    while args.get("stay"):
        time.sleep(1)
    os._exit(0)


def crash(args):
    ctypes.string_at(0)
