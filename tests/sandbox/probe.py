"""What untrusted code tries, as small functions: `probe.py CASE JSON`, inside a sandbox or outside as a control.

Prints one JSON object. More cases are in `probe_network.py` and `probe_resources.py` beside it. Standard library of
the host's own Python only, so that it runs on `/usr/bin/python3 -I -S`.
"""

import ctypes
import errno
import json
import os
import socket
import struct
import sys
import time

libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long


def seen(action):
    """What came of an action: its value, or the errno's name."""
    try:
        return action()
    except OSError as problem:
        return errno.errorcode.get(problem.errno, type(problem).__name__)
    except Exception as problem:
        return type(problem).__name__


def call(number, *arguments):
    """A raw system call: 'ok' or the errno's name."""
    ctypes.set_errno(0)
    words = [ctypes.c_long(item) if isinstance(item, int) else item for item in arguments]
    result = libc.syscall(ctypes.c_long(number), *words)
    return "ok" if result >= 0 else errno.errorcode.get(ctypes.get_errno(), "?")


def read(path, size=65536):
    with open(path, "rb") as file:
        return file.read(size).decode(errors="replace")


def write(path, data=b"x", flags=os.O_WRONLY | os.O_CREAT):
    fd = os.open(path, flags)
    try:
        return os.write(fd, data)
    finally:
        os.close(fd)


# ---------------------------------------------------------------------------------------------- files


def read_all(args):
    return {path: seen(lambda: read(path)) for path in args["paths"]}


def write_all(args):
    return {path: seen(lambda: write(path)) for path in args["paths"]}


def list_all(args):
    return {path: seen(lambda: sorted(os.listdir(path))) for path in args["paths"]}


def descriptors(args):
    found = {}
    for name in os.listdir("/proc/self/fd"):
        target = seen(lambda: os.readlink(f"/proc/self/fd/{name}"))
        if target != "ENOENT":
            found[name] = target
    return found


def links(args):
    """Every way of naming a host path by a link of another process or by climbing."""
    found = {}
    for pid in [name for name in os.listdir("/proc") if name.isdigit()] + ["self"]:
        for part in ("root", "cwd"):
            path = f"/proc/{pid}/{part}{args['path']}"
            found[path] = seen(lambda: read(path))
    for path in ("/" + "../" * 20 + args["path"], f"/tmp/../../../..{args['path']}", f"/proc/self/root{args['path']}"):
        found[path] = seen(lambda: read(path))
    return found


def devices(args):
    found = {path: seen(lambda: os.close(os.open(path, os.O_RDWR))) for path in args["paths"]}
    for kind, mode in (("block", 0o60666), ("char", 0o20666)):
        found[f"mknod {kind}"] = seen(lambda: os.mknod(f"/tmp/{kind}", mode, os.makedev(8, 0)))
    found["usable"] = {name: seen(lambda: len(read(f"/dev/{name}", 4))) for name in ("null", "zero", "urandom")}
    found["dev"] = sorted(os.listdir("/dev"))
    found["reopen stdout"] = seen(lambda: write("/dev/stdout", b""))
    return found


def fill(args):
    """Bytes until the file system is full, then files until it has no inode."""
    block, total = b"z" * 65536, 0
    fd = os.open(args["folder"] + "/big", os.O_WRONLY | os.O_CREAT)
    try:
        while total < args["bound"]:
            total += os.write(fd, block)
        end = "bound"
    except OSError as problem:
        end = errno.errorcode[problem.errno]
    os.close(fd)
    os.unlink(args["folder"] + "/big")
    files = 0
    try:
        while files < args["files"]:
            os.close(os.open(f"{args['folder']}/{files}", os.O_WRONLY | os.O_CREAT))
            files += 1
        files_end = "bound"
    except OSError as problem:
        files_end = errno.errorcode[problem.errno]
    return {"bytes": total, "end": end, "files": files, "files_end": files_end}


def setuid_exec(args):
    """A set-uid copy of a program, and the set-uid programs of the system: identity after exec."""
    with open("/usr/bin/dash", "rb") as source, open("/tmp/sh", "wb") as copy:
        copy.write(source.read())
    os.chmod("/tmp/sh", 0o6755)
    wanted = "Uid:|Gid:|CapEff:|CapPrm:|NoNewPrivs:"
    script = f"while read a b; do case $a in {wanted}) echo $a $b;; esac; done </proc/self/status"
    found = {"copy": os.popen(f"/tmp/sh -c '{script}'").read().split("\n")}
    for command in ("su -c id", "mount -t tmpfs x /mnt"):
        found[command] = os.popen(f"{command} </dev/null 2>&1; echo $?").read()
    found["xattr"] = seen(
        lambda: os.setxattr("/tmp/sh", "security.capability", struct.pack("<5I", 0x2000001, 1, 0, 0, 0))
    )
    return found


# ---------------------------------------------------------------------------------------------- processes


def status_of(path):
    wanted = ("Uid", "Gid", "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp", "Groups")
    rows = dict(line.split(":", 1) for line in read(path).splitlines() if ":" in line)
    return {name: rows[name].split() for name in wanted if name in rows}


def statuses(args):
    import subprocess
    import threading

    found = {"main": status_of("/proc/self/status")}
    thread = threading.Thread(target=lambda: found.update(thread=status_of("/proc/thread-self/status")))
    thread.start()
    thread.join()
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.write(writer, json.dumps(status_of("/proc/self/status")).encode())
        os._exit(0)
    found["child"] = json.loads(os.read(reader, 65536))
    os.waitpid(pid, 0)
    text = subprocess.run(["/usr/bin/cat", "/proc/self/status"], capture_output=True, text=True, check=True).stdout
    with open("/tmp/status", "w") as file:
        file.write(text)
    found["after exec"] = status_of("/tmp/status")
    return found


def processes(args):
    found = {}
    for pid in [name for name in os.listdir("/proc") if name.isdigit()]:
        found[pid] = seen(lambda: read(f"/proc/{pid}/cmdline") + read(f"/proc/{pid}/environ"))
    return found


def attack_pids(args):
    """Kill, trace and read other processes: whatever the number, only our own may be met."""
    import signal

    found = {}
    pids = [*args["pids"], 2, 3, 100, 1000]
    for pid in pids:
        found[f"kill {pid}"] = seen(lambda: os.kill(pid, signal.SIGKILL) or "ok")
        found[f"ptrace {pid}"] = call(args["ptrace"], 16, pid, 0, 0)
        found[f"process_vm_readv {pid}"] = call(args["process_vm_readv"], pid, 0, 0, 0, 0, 0)
        found[f"pidfd_open {pid}"] = call(434, pid, 0)
    child = os.fork()
    if child == 0:
        os.setsid()
        time.sleep(20)
        os._exit(0)
    found["pidfd_getfd own child"] = call(438, call_value(434, child, 0), 0, 0)
    found["ptrace own child"] = call(args["ptrace"], 16, child, 0, 0)
    found["kill -1"] = seen(lambda: os.kill(-1, signal.SIGKILL) or "ok")
    return found


def call_value(number, *arguments):
    return libc.syscall(ctypes.c_long(number), *[ctypes.c_long(item) for item in arguments])


def namespaces(args):
    before = {name: os.readlink(f"/proc/self/ns/{name}") for name in os.listdir("/proc/self/ns")}
    mounts = read("/proc/self/mountinfo")
    found = {}
    flags = (0x20000, 0x2000000, 0x4000000, 0x8000000, 0x10000000, 0x20000000, 0x40000000, 0x80)
    for flag in flags:
        found[f"unshare {flag:x}"] = call(args["unshare"], flag)
        if flag != 0x80:
            found[f"clone {flag:x}"] = fork_call(args["clone"], flag | 17, 0, 0, 0, 0)
    found["clone3"] = fork_call(
        435, ctypes.create_string_buffer(struct.pack("=11Q", 0x10000000, 0, 0, 0, 17, *[0] * 6)), 88
    )
    target = ctypes.c_char_p(b"/tmp")
    kind = ctypes.c_char_p(b"tmpfs")
    ns = os.open("/proc/self/ns/uts", os.O_RDONLY)
    found["setns"] = call(args["setns"], ns, 0)
    found["mount"] = call(args["mount"], kind, target, kind, 0, None)
    found["umount"] = call(args["umount2"], target, 2)
    found["fsopen"] = call(430, kind, 0)
    found["open_tree"] = call(428, -100, target, 1)
    found["move_mount"] = call(429, -100, target, -100, ctypes.c_char_p(b"/mnt"), 0)
    found["mount_setattr"] = call(442, -100, target, 0, ctypes.create_string_buffer(32), 32)
    found["pivot_root"] = call(args["pivot_root"], target, target)
    found["chroot"] = call(args["chroot"], target)
    after = {name: os.readlink(f"/proc/self/ns/{name}") for name in os.listdir("/proc/self/ns")}
    found["unchanged"] = before == after and mounts == read("/proc/self/mountinfo")
    return found


def fork_call(number, *arguments):
    """A call that would make a process: it ends at once if it succeeds."""
    words = [ctypes.c_long(item) if isinstance(item, int) else item for item in arguments]
    result = libc.syscall(ctypes.c_long(number), *words)
    if result == 0:
        os._exit(0)
    if result > 0:
        os.waitpid(result, 0)
        return "ok"
    return errno.errorcode.get(ctypes.get_errno(), "?")


def kernel_calls(args):
    found = {name: call(number, *values) for name, (number, *values) in args["calls"].items()}
    found["alive"] = sum(range(1000)) == 499500
    return found


def foreign_entry(args):
    """A system call by another convention, in a child: how the child ended, or what it got."""
    import mmap

    pid = os.fork()
    if pid == 0:
        if args["how"] == "int80":
            code = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
            code.write(b"\xb8\x14\x00\x00\x00\xcd\x80\xc3")  # mov eax, 20 (getpid); int 0x80; ret
            address = ctypes.addressof(ctypes.c_char.from_buffer(code))
            result = ctypes.CFUNCTYPE(ctypes.c_int)(address)()
            os._exit(0 if result > 0 else 3)
        result = libc.syscall(ctypes.c_long(args["number"]), 0, 0, 0, 0, 0)
        os._exit(0 if result >= 0 else 38 if ctypes.get_errno() == errno.ENOSYS else 4)
    _, status = os.waitpid(pid, 0)
    return {"signal": os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0, "code": os.waitstatus_to_exitcode(status)}


def socket_families(args):
    found = {}
    for name, (family, kind, protocol) in args["sockets"].items():
        found[name] = seen(lambda: socket.socket(family, kind, protocol).close() or "ok")
    return found


def proc_writes(args):
    found = {path: seen(lambda: write(path, value.encode(), os.O_WRONLY)) for path, value in args["writes"].items()}
    found["route"] = seen(lambda: add_route())
    found["interface"] = seen(lambda: interface_down())
    found["hostname"] = seen(lambda: socket.sethostname("mine"))
    return found


def add_route():
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as link:
        body = struct.pack("=8BI", 2, 0, 0, 0, 254, 3, 254, 2, 0) + struct.pack("=HHI", 8, 4, 1)
        link.send(struct.pack("=IHHII", 16 + len(body), 24, 0x605, 1, 0) + body)
        code = -struct.unpack_from("=i", link.recv(4096), 16)[0]
        return errno.errorcode.get(code, "ok")


def interface_down():
    import fcntl

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        fcntl.ioctl(probe, 0x8914, struct.pack("16sh14x", b"lo", 0))
        return "ok"


def cgroups(args):
    return {
        "own": read("/proc/self/cgroup"),
        "sys": seen(lambda: os.listdir("/sys")),
        "mount": call(
            args["mount"], ctypes.c_char_p(b"c"), ctypes.c_char_p(b"/tmp"), ctypes.c_char_p(b"cgroup2"), 0, None
        ),
        "mounted": " - cgroup" in read("/proc/self/mountinfo"),
    }


def ipc(args):
    """Sockets and shared memory of the host by name; then our own."""
    found = {}
    for name, address in (("abstract", "\0" + args["abstract"]), ("path", args["path"])):
        with socket.socket(socket.AF_UNIX) as client:
            found[name] = seen(lambda: client.connect(address) or "connected")
    found["shm of host"] = libc.shmget(args["key"], 0, 0)
    found["posix shm of host"] = os.path.exists("/dev/shm/" + args["shm"])
    found["queue of host"] = libc.msgget(args["key"], 0)
    own = libc.shmget(args["key"] + 1, 4096, 0o1600)
    found["own shm"] = own >= 0
    with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as client:
        server.bind("\0own")
        server.listen()
        found["own abstract"] = seen(lambda: client.connect("\0own") or "connected")
    return found


def bounds(args):
    import resource

    found = {
        "nice": seen(lambda: os.nice(-5)),
        "fifo": seen(lambda: os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))),
    }
    libc.mmap.restype = ctypes.c_void_p
    found["mlock"] = "ok" if libc.mlock(ctypes.create_string_buffer(64 << 20), 64 << 20) == 0 else "refused"
    opened = []
    try:
        while len(opened) < 100_000:
            opened.append(os.open("/dev/null", os.O_RDONLY))
        found["files"] = "bound"
    except OSError as problem:
        found["files"] = errno.errorcode[problem.errno]
    found["opened"] = len(opened)
    for fd in opened:
        os.close(fd)
    found["raise"] = seen(lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (1 << 20, 1 << 20)))
    found["core"] = resource.getrlimit(resource.RLIMIT_CORE)
    return found


def socket_memory(args):
    """Connections to itself whose other end never reads: what the kernel holds for them, in bytes."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=args["connections"])
    held, queued = [], 0
    for _ in range(args["connections"]):
        sender = socket.create_connection(listener.getsockname())
        sender.setblocking(False)
        held += [sender, listener.accept()[0]]
        try:
            while True:
                queued += sender.send(bytes(262_144))
        except BlockingIOError:
            pass
    return {"queued": queued}


def core_limit(args):
    """Try to set the limit of core files to 0, which would let the kernel start the host's program for crashes."""
    import resource

    tried = seen(lambda: resource.setrlimit(resource.RLIMIT_CORE, (0, 0)))
    return {"tried": tried, "limit": resource.getrlimit(resource.RLIMIT_CORE)}


def say(args):
    return {"pid": os.getpid(), "cwd": os.getcwd(), "environment": dict(os.environ), "home": os.path.expanduser("~")}


def user(args):
    import pwd

    return {"name": pwd.getpwuid(os.getuid()).pw_name, "uid": os.getuid(), "host": socket.gethostname()}


def find(case):
    """The function of a case."""
    if case in globals():
        return globals()[case]
    sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
    import probe_network
    import probe_resources

    return getattr(probe_network, case, None) or getattr(probe_resources, case)


def main():
    case, args = sys.argv[1], json.loads(sys.argv[2])
    answer = find(case)(args)
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
