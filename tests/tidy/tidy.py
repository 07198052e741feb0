#!/usr/bin/env python3
"""Style as a test: reads the sources and reports every breach as file:line: what, and what to do instead.

Usage: tidy.py ROOT. Exit 1 when anything is found. Each rule is a function from a file (or the tree) to findings, so that
tidy_test.py can show that it fails when it should.
"""
import re
import subprocess
import sys
from pathlib import Path

# What a folder may include of ours; the longest matching row holds. The arrows of the architecture: proto <- server ->
# engine -> kernels.
DOOR = ["kernels/backend.h", "kernels/convert.h", "kernels/tensor.h", "kernels/quant_format.h", "kernels/quantize.h",
        "kernels/kv_type.h", "kernels/base/"]
INCLUDES = {
    "kernels/base/": ["kernels/base/"],
    "kernels/cpu/": ["kernels/"],
    "kernels/cuda/": ["kernels/"],
    "kernels/": ["kernels/"],
    "engine/text/": ["engine/text/", "engine/status_payload.h", "kernels/base/"],
    "engine/checkpoint/": ["engine/checkpoint/", "engine/text/tokenizer_source.h"] + DOOR,
    "engine/": ["engine/"] + DOOR,
    "server/": ["server/", "engine/", "vernier/v1/", "google/rpc/", "grpc/health/", "kernels/base/", "kernels/backend.h",
                "kernels/kv_type.h", "kernels/quant_format.h", "kernels/tensor.h"],
    "server/main.cc": ["server/", "engine/", "kernels/make_backend.h", "kernels/base/", "kernels/backend.h"],
    "cli/": ["cli/", "engine/", "vernier/v1/", "google/rpc/", "kernels/base/"],
    "loadtest/report/": ["loadtest/report/"],
    "loadtest/": ["loadtest/", "vernier/v1/", "kernels/base/"],
    "cli/manifest_file.cc": ["cli/", "engine/", "kernels/make_backend.h"],
}
# kernels/ itself does not know its backends; make_backend.cc is the one file that opens them.
NOT_INCLUDED = {"kernels/": ["kernels/cpu/", "kernels/cuda/"]}
OPENS_BACKENDS = {"kernels/make_backend.cc"}

# Libraries of others that belong to some folders only.
LIBRARIES = {
    r"grpc(pp)?/": ("server/", "cli/", "loadtest/", "tests/"),
    r"google/protobuf/": ("server/", "cli/", "loadtest/", "tests/"),
    r"prometheus/": ("server/", "tests/"),
    r"yaml-cpp/": ("server/config", "tests/"),
    r"cuda|cublas": ("kernels/cuda/", "tests/kernels/cuda/", "tests/bench/gemm_bench"),
}

BANNED = [
    (r"std::string_view\b", "absl::string_view (Debian's Abseil has its own type)", ()),
    (r"std::(recursive_|shared_|timed_)?mutex\b|std::condition_variable", "vernier::Mutex, CondVar of kernels/base/mutex.h",
     ("kernels/base/mutex.h",)),
    (r"absl::Mutex\b|absl::CondVar\b", "vernier::Mutex (Abseil's gives false ThreadSanitizer reports)", ()),
    (r"\bsleep_for\b|\bsleep_until\b|\bSleepFor\b|\busleep\(|\bnanosleep\(", "a condition to wait on", ()),
    (r"\busing namespace\b", "names in full, or a using declaration", ()),
    (r"<<<", "kernels/cuda", ("kernels/cuda/",)),
    (r"^\s*try\b|\bcatch \(", "absl::Status; a library that throws is caught in the one file that calls it",
     ("server/config", "server/http", "cli/command_line.cc", "cli/main.cc", "server/main.cc",
      "loadtest/flags.cc", "loadtest/main.cc")),
    (r"\bthrow\b", "absl::Status", ()),
    (r"\bassert\(", "VERNIER_CHECK, or a status", ()),
    (r"\b(TODO|FIXME|XXX|HACK)\b", "an issue, or the work itself", ()),
]

MAX_LINE = 120  # the formatter aims at 100; what it cannot break may stand
MAX_FILE = 500
MAX_FUNCTION = 70
# path: (lines, reason)
LONG_FILES = {}
LONG_FUNCTIONS = {}


def tracked(root):
    """What git tracks; of an unpacked archive all but what is built and fetched."""
    if not (root / ".git").exists():
        paths = (p.relative_to(root) for p in root.rglob("*") if p.is_file())
        return sorted(str(p) for p in paths if p.parts[0] not in ("build", "models"))
    out = subprocess.run(["git", "-C", str(root), "ls-files"], capture_output=True, text=True, check=True).stdout
    return [p for p in out.splitlines() if (root / p).is_file()]


def is_code(path):
    return path.endswith((".h", ".cc")) and not path.startswith("tests/data/")


def strip(line):
    """The line without string literals and // comments: what the compiler would act on."""
    line = re.sub(r'"(\\.|[^"\\])*"', '""', line)
    return re.sub(r"//.*", "", line)


def check_includes(path, lines):
    rule = max((p for p in INCLUDES if path.startswith(p)), key=len, default=None)
    for number, line in enumerate(lines, 1):
        found = re.match(r'\s*#\s*include\s+["<]([^">]+)[">]', line)
        if not found:
            continue
        name = found.group(1)
        ours = re.match(r"(kernels|engine|server|cli|loadtest|vernier/v1|google/rpc|grpc/health)/", name)
        if ours and rule is not None:
            allowed = any(name.startswith(p) for p in INCLUDES[rule])
            denied = [p for p in NOT_INCLUDED.get(rule, []) if name.startswith(p)]
            if not allowed or (denied and path not in OPENS_BACKENDS):
                yield number, f"{path.split('/')[0]}/ may not include {name}: arrows point downwards"
        for pattern, homes in LIBRARIES.items():
            if not ours and re.match(pattern, name) and not path.startswith(homes):
                yield number, f"<{name}> belongs to {', '.join(homes)} alone"


def check_banned(path, lines):
    for number, line in enumerate(lines, 1):
        for pattern, instead, homes in BANNED:
            text = line if "TODO" in pattern else strip(line)
            if path.startswith(homes) if homes else False:
                continue
            if re.search(pattern, text):
                yield number, f"'{re.search(pattern, text).group(0).strip()}': use {instead}"


def check_length(path, lines):
    limit = LONG_FILES.get(path, (MAX_FILE, ""))[0]
    if len(lines) > limit:
        yield limit, f"{len(lines)} lines, limit {limit}: is it one idea?"
    for number, line in enumerate(lines, 1):
        if len(line) > MAX_LINE and "http" not in line and 'R"' not in line:
            yield number, f"{len(line)} columns, limit {MAX_LINE}"
    start = None
    for number, line in enumerate(lines, 1):
        # Google style: what is outside of classes begins in column 0, namespaces do not indent.
        if start is None and re.match(r"[A-Za-z].*[({,]$|[A-Za-z].*\) (const )?\{$", line) and not re.match(
                r"(namespace|class|struct|enum|union|extern|#|constexpr|const|static const|inline constexpr|using)\b", line):
            start = number
        elif start is not None and re.match(r"(\}|\S.*;$)", line):
            length = number - start + 1
            if line.startswith("}") and length > LONG_FUNCTIONS.get(f"{path}:{lines[start - 1].split('(')[0].split()[-1]}",
                                                                   (MAX_FUNCTION, ""))[0]:
                yield start, f"function of {length} lines, limit {MAX_FUNCTION}"
            start = None


def check_header(path, lines):
    if not path.endswith(".h"):
        return
    if not lines or not lines[0].startswith("// "):
        yield 1, "a header opens with one sentence of purpose"
    if "#pragma once" not in lines[:40]:
        yield 1, "a header has #pragma once"


def check_in_cmake(path, root):
    """Every source is built: its name stands in the CMakeLists.txt of its folder or of one above."""
    if not path.endswith(".cc"):
        return
    file = Path(path)
    for folder in [file.parent, *file.parent.parents]:
        cmake = root / folder / "CMakeLists.txt"
        if cmake.exists():
            name = str(file.relative_to(folder))
            text = cmake.read_text()
            stem = name.rsplit(".", 1)[0]
            if re.search(rf"(?<![\w]){re.escape(name)}\b", text) or (
                    "foreach" in text and re.search(rf"(?<![\w]){re.escape(stem.removesuffix('_fuzz'))}\b", text)):
                return
    yield 1, "in no CMakeLists.txt: it is never built"


def check_locks(path, lines, root):
    """Every lock is listed, as Class::member, in the README of its folder."""
    if path.startswith("tests/"):
        return
    owners = []  # (indent, name) of the classes so far; a lock belongs to the last one that stands left of it
    for number, line in enumerate(lines, 1):
        found = re.match(r"\s*(?:class|struct)\s+(?:ABSL_\w+(?:\([^)]*\))?\s+)?(\w+)\b(?!.*;)", line)
        if found:
            owners.append((len(line) - len(line.lstrip()), found.group(1)))
        lock = re.match(r"\s*(?:mutable\s+)?(?:vernier::)?Mutex (\w+);", line)
        if lock:
            readme = (root / path).parent / "README.md"
            indent = len(line) - len(line.lstrip())
            owner = next((name for left, name in reversed(owners) if left < indent), None)
            name = f"{owner}::{lock.group(1)}" if owner else lock.group(1)
            if not readme.exists() or name not in readme.read_text():
                yield number, f"the lock {name} is not listed in {Path(path).parent}/README.md"


def check_folders(paths):
    """Every folder of ours says what lives there; a kustomization by its first lines, and in the README of deploy/kustomize."""
    folders = {str(Path(p).parent) for p in paths}
    for folder in sorted(folders):
        if folder == "." or folder.startswith(("tests/data/", "tests/fuzz/corpus", ".ci", "cmake", "proto/", "deploy/kustomize/",
                                                "deploy/helm/vernier/", "deploy/monitoring/dashboards",
                                                "clients/python/vernier_client")):
            continue
        if f"{folder}/README.md" not in paths:
            yield f"{folder}/README.md", 1, "missing: say what lives there and what may be touched"


def check_hosts(path, lines):
    pattern = "pythonhosted|deb\\." + "debian\\.org|pypi\\." + "org|/(work|root|farm)/"
    for number, line in enumerate(lines, 1):
        if path != "tests/tidy/tidy.py" and re.search(pattern, line):
            yield number, "a path of some machine, or a registry's host"


def findings(root):
    paths = tracked(root)
    yield from check_folders(set(paths))
    for path in paths:
        if path.startswith("tests/data/") or path.startswith("tests/fuzz/corpus/"):
            continue
        try:
            lines = (root / path).read_text().splitlines()
        except UnicodeDecodeError:
            continue
        rules = [check_hosts(path, lines)]
        if is_code(path):
            rules += [check_includes(path, lines), check_banned(path, lines), check_length(path, lines),
                      check_header(path, lines), check_in_cmake(path, root), check_locks(path, lines, root)]
        for rule in rules:
            for number, message in rule:
                yield path, number, message


def main():
    root = Path(sys.argv[1] if len(sys.argv) > 1 else ".").resolve()
    found = list(findings(root))
    for path, number, message in found:
        print(f"{path}:{number}: {message}")
    print(f"tidy: {len(found)} findings")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
