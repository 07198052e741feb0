#!/usr/bin/env python3
"""Runs a program under a seccomp profile of the OCI's form, as a container runtime does:
`under_seccomp.py [--allow NAME,...] PROFILE PROGRAM ARG...`. --allow adds what a test program does besides what it tests.

x86-64 alone. Of the form it knows what `deploy/seccomp/vernierd.json` uses: names, args with SCMP_CMP_EQ and SCMP_CMP_MASKED_EQ,
SCMP_ACT_ALLOW and SCMP_ACT_ERRNO with errnoRet; whatever else it finds it refuses. Names that this kernel's headers lack are left out.
Filters: https://www.kernel.org/doc/html/latest/userspace-api/seccomp_filter.html
"""
import argparse
import ctypes
import json
import os
import re
import struct
import sys
from pathlib import Path

HEADERS = ["/usr/include/x86_64-linux-gnu/asm/unistd_64.h", "/usr/include/asm/unistd_64.h"]
LOAD, AND, EQUAL, AT_LEAST, RETURN = 0x20, 0x54, 0x15, 0x35, 0x06
ALLOW, ERRNO, KILL_PROCESS = 0x7FFF0000, 0x00050000, 0x80000000
AUDIT_ARCH_X86_64, X32 = 0xC000003E, 0x40000000
PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 38, 22, 2
EPERM = 1


def numbers():
    for header in HEADERS:
        if Path(header).exists():
            return {name: int(nr) for name, nr in re.findall(r"#define __NR_(\w+) (\d+)", Path(header).read_text())}
    sys.exit("under_seccomp.py: no asm/unistd_64.h (package linux-libc-dev)")


def action(rule):
    if rule["action"] == "SCMP_ACT_ALLOW":
        return ALLOW
    if rule["action"] == "SCMP_ACT_ERRNO":
        return ERRNO | rule.get("errnoRet", EPERM)
    sys.exit(f"under_seccomp.py: action {rule['action']} is not known")


def condition(arg):
    """Instructions that leave the block, whose length is filled in later, unless the argument is as asked."""
    if arg["op"] == "SCMP_CMP_EQ":
        mask, value = (1 << 64) - 1, arg["value"]
    elif arg["op"] == "SCMP_CMP_MASKED_EQ":
        mask, value = arg["value"], arg["valueTwo"]
    else:
        sys.exit(f"under_seccomp.py: comparison {arg['op']} is not known")
    out = []
    for half in (0, 1):  # little-endian
        part = (1 << 32) - 1
        out += [(LOAD, 0, 0, 16 + 8 * arg["index"] + 4 * half), (AND, 0, 0, mask >> 32 * half & part),
                (EQUAL, 0, None, value >> 32 * half & part)]
    return out


def compile_profile(profile):
    nr = numbers()
    default = action({"action": profile["defaultAction"], "errnoRet": profile.get("defaultErrnoRet", EPERM)})
    out = [(LOAD, 0, 0, 4), (EQUAL, 1, 0, AUDIT_ARCH_X86_64), (RETURN, 0, 0, KILL_PROCESS),
           (LOAD, 0, 0, 0), (AT_LEAST, 0, 1, X32), (RETURN, 0, 0, default)]
    for rule in profile["syscalls"]:
        verdict = (RETURN, 0, 0, action(rule))
        checks = [step for arg in rule.get("args", []) for step in condition(arg)]
        for name in rule["names"]:
            if name not in nr:
                continue
            block = checks + [verdict]
            block = [(code, jt, len(block) - i - 1 if jf is None else jf, k) for i, (code, jt, jf, k) in enumerate(block)]
            out += [(EQUAL, 0, len(block), nr[name])] + block
            if checks:
                out.append((LOAD, 0, 0, 0))  # the number again, for the rules behind it
    return out + [(RETURN, 0, 0, default)]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--allow", default="", metavar="NAME,...")
    parser.add_argument("profile", type=Path)
    parser.add_argument("command", nargs=argparse.REMAINDER)
    arguments = parser.parse_args()
    if not arguments.command:
        parser.error("no PROGRAM")
    profile = json.loads(arguments.profile.read_text())
    profile["syscalls"].insert(0, {"names": arguments.allow.split(","), "action": "SCMP_ACT_ALLOW"})
    steps = compile_profile(profile)
    code = b"".join(struct.pack("HBBI", *step) for step in steps)
    held = ctypes.create_string_buffer(code, len(code))

    class Program(ctypes.Structure):
        _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_void_p)]

    program = Program(len(steps), ctypes.addressof(held))
    libc = ctypes.CDLL(None, use_errno=True)
    for call in ((PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), (PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.byref(program), 0, 0)):
        if libc.prctl(*call) != 0:
            sys.exit(f"under_seccomp.py: prctl: {os.strerror(ctypes.get_errno())}")
    os.execv(arguments.command[0], arguments.command)


if __name__ == "__main__":
    main()
