"""The process inside `tis_ray.evaluation.sandbox`: gives up its own rights, then runs a program.

Run as a script by a bare Python, so it imports only the standard library. The order comes on standard
input, and the outcome goes to the file descriptor given as the first argument.
"""

from __future__ import annotations

import ctypes
import json
import os
import platform
import resource
import struct
import sys

_LIBC = ctypes.CDLL(None, use_errno=True)

# prctl(2)
_NO_NEW_PRIVS, _SET_SECCOMP, _FILTER = 38, 22, 2

# seccomp(2): the calls that are refused, with their numbers on x86-64 and arm64 (None: there is none).
_REFUSED: dict[str, tuple[int | None, int | None]] = {
    # start a process or a thread, become another program
    "clone": (56, 220),
    "clone3": (435, 435),
    "fork": (57, None),
    "vfork": (58, None),
    "execve": (59, 221),
    "execveat": (322, 281),
    # reach the network, or other processes
    "socket": (41, 198),
    "socketpair": (53, 199),
    "kill": (62, 129),
    "tkill": (200, 130),
    "tgkill": (234, 131),
    "rt_sigqueueinfo": (129, 138),
    "rt_tgsigqueueinfo": (297, 240),
    "pidfd_open": (434, 434),
    "pidfd_send_signal": (424, 424),
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    # change what Landlock does not protect: modes, owners, attributes, limits
    "chmod": (90, None),
    "fchmod": (91, 52),
    "fchmodat": (268, 53),
    "fchmodat2": (452, 452),
    "chown": (92, None),
    "lchown": (94, None),
    "fchown": (93, 55),
    "fchownat": (260, 54),
    "setxattr": (188, 5),
    "lsetxattr": (189, 6),
    "fsetxattr": (190, 7),
    "utimensat": (280, 88),
    "prlimit64": (302, 261),
    "setrlimit": (160, 164),
    # circumvent all of this, or damage the machine (for root)
    "io_uring_setup": (425, 425),
    "bpf": (321, 280),
    "unshare": (272, 97),
    "setns": (308, 268),
    "mount": (165, 40),
    "umount2": (166, 39),
    "reboot": (169, 142),
    "init_module": (175, 105),
}
_MACHINES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}
"""Column of `_REFUSED`, and the architecture's name in the kernel."""
_X32 = 0x40000000  # the second numbering of system calls on x86-64

# landlock(7): all rights that change files, by version of the interface.
_CREATE, _ADD_RULE, _RESTRICT = 444, 445, 446
_WRITES = 1 << 1 | sum(1 << bit for bit in range(4, 13))
_REFER, _TRUNCATE = 1 << 13, 1 << 14


def limit(cpu: float, memory: int, file: int) -> None:
    """Set the limits of the process for good (the filter keeps root from raising them)."""
    seconds = int(cpu) + 1
    for name, value in (
        (resource.RLIMIT_CPU, seconds),
        (resource.RLIMIT_AS, memory),
        (resource.RLIMIT_FSIZE, file),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NOFILE, 64),
        (resource.RLIMIT_NPROC, 0),  # root is exempt, so the filter forbids it too
    ):
        resource.setrlimit(name, (value, value))


def keep_writes_inside(folder: str) -> None:
    """Forbid every change to files outside `folder`, if the kernel has Landlock."""
    version = _LIBC.syscall(_CREATE, None, ctypes.c_size_t(0), 1)
    if version < 1:
        return
    rights = _WRITES | (_REFER if version >= 2 else 0) | (_TRUNCATE if version >= 3 else 0)
    attributes = ctypes.create_string_buffer(struct.pack("=Q", rights), 8)
    rules = _LIBC.syscall(_CREATE, attributes, ctypes.c_size_t(8), 0)
    if rules < 0:
        return
    inside = os.open(folder, os.O_PATH | os.O_DIRECTORY)
    beneath = ctypes.create_string_buffer(struct.pack("=Qi", rights, inside), 12)
    _LIBC.syscall(_ADD_RULE, rules, 1, beneath, 0)
    _LIBC.syscall(_RESTRICT, rules, 0)
    os.close(inside)
    os.close(rules)


def forbid_calls() -> None:
    """Make the kernel refuse the calls in `_REFUSED` (EPERM) from here on, on known architectures."""
    if platform.machine() not in _MACHINES:
        return
    column, architecture = _MACHINES[platform.machine()]
    calls = [call for numbers in _REFUSED.values() if (call := numbers[column]) is not None]
    load, equal, at_least, give = 0x20, 0x15, 0x35, 0x06  # of classic BPF
    refuse, allow, number_at, architecture_at = 0x00050001, 0x7FFF0000, 0, 4
    # Each line: operation, lines to skip if true, lines to skip if false, value. The last line refuses.
    last = len(calls) + 5
    lines = [(load, 0, 0, architecture_at), (equal, 0, last - 2, architecture)]
    lines += [(load, 0, 0, number_at), (at_least, last - 4, 0, _X32)]
    lines += [(equal, last - 5 - place, 0, call) for place, call in enumerate(calls)]
    lines += [(give, 0, 0, allow), (give, 0, 0, refuse)]
    code = b"".join(struct.pack("=HBBI", *line) for line in lines)
    buffer = ctypes.create_string_buffer(code, len(code))
    program = struct.pack("=H6xQ", len(lines), ctypes.addressof(buffer))
    _LIBC.prctl(_SET_SECCOMP, _FILTER, ctypes.create_string_buffer(program, len(program)), 0, 0)


def run(source: str) -> tuple[str, str]:
    """Run the program; return how it ended, and the error if there was one."""
    try:
        code = compile(source, "program.py", "exec")
    except (SyntaxError, ValueError) as error:  # ValueError: null characters
        return "syntax", repr(error)
    try:
        exec(code, {"__name__": "__main__"})  # noqa: S102  what all of this is for
    except AssertionError as error:
        return "assertion", repr(error)
    except BaseException as error:  # SystemExit too: the last line was not reached
        return "other", repr(error)
    return "passed", ""


def main() -> None:
    """Run the program in the order on standard input, confined; report the outcome."""
    out = int(sys.argv[1])
    order = json.loads(sys.stdin.buffer.read())
    word = order.pop("word")
    limit(**order["limits"])
    _LIBC.prctl(_NO_NEW_PRIVS, 1, 0, 0, 0)
    keep_writes_inside(order["folder"])
    forbid_calls()
    kind, detail = run(order["source"])
    os.write(out, json.dumps({"word": word, "kind": kind, "detail": detail[:300]}).encode())


if __name__ == "__main__":
    main()
