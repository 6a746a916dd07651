#!/usr/bin/python3
"""Checks on the source tree that no compiler makes. Each prints `file:line: what is wrong` and exits 1.

usage: sources.py includes|lists|messages|sizes|format|speech ROOT        one check on one tree
       sources.py can-fail                                                each check on a tree made to break it

includes   a folder includes headers of its own room and of rooms above it (DESIGN: rooms), never below
lists      a room's list.h names exactly the techniques its files declare, sorted, each in the file of its name
messages   every oz_fail() message names something (a % in it, or a technique by its name) in words, and none says "invalid"
sizes      no tracked file over 512 KiB; no file of src over 700 lines
format     clang-format-14 would change nothing (public headers are laid out by hand)
speech     the tree speaks of Ounce alone: no paths of somebody's machine, no marks of unfinished work
"""
import os
import re
import subprocess
import sys
import tempfile

# Rooms from the top of the house down. A public header stands with the highest room that needs it.
ROOMS = ["core/base", "core/tensor", "core/io", "core/text", "core/media",
         "number/format", "number/map", "number/sidecar", "number/kernel", "number/linear", "number/kv", "number",
         "model",
         "quantize/calib", "quantize/transform", "quantize/fit", "quantize/solver", "quantize/allocate", "quantize/sidecar",
         "quantize/learn", "quantize/recipe", "quantize",
         "run/session", "run/cluster", "run/serve", "run", "measure/eval", "measure/study", "measure/audit", "measure", "codec", "cli"]
HEADERS = {"base": "core/base", "machine": "core/base", "option": "core/base", "tensor": "core/tensor", "io": "core/io", "text": "core/text",
           "media": "core/media", "format": "number/format", "map": "number/map", "sidecar": "number/map", "linear": "number/format",
           "kernel": "number/kernel", "kv": "number/kernel", "model": "model", "quantize": "quantize/calib", "recipe": "quantize/recipe",
           "job": "quantize/recipe", "session": "run/session", "run": "run/session", "serve": "run/serve", "eval": "measure/eval",
           "measure": "measure/eval", "study": "measure/study", "audit": "measure/audit", "codec": "codec"}
# Rooms whose techniques stand in a list.h: the words of their constants are oz_KIND_NAME.
LISTED = {"number/format": "format", "number/sidecar": "sidecar", "quantize/fit": "fit", "quantize/solver": "solver",
          "quantize/transform": "transform", "quantize/allocate": "allocator", "quantize/sidecar": "sidecar_hook"}
# Parsed YAML and JSON (oz_node) are plain data that option tables read; the readers that make them stand one room lower.
ALLOWED = {("src/core/base/option.c", "ounce/io.h")}
TECHNIQUE = re.compile(r"(solver|fit|transform|sidecar|allocator|format) [a-z-]+[: ]")     # names a thing without a value
LARGEST_FILE = 512 * 1024
LONGEST_SOURCE = 700


def walk(root, *tops, endings=(".c", ".h")):
    for top in tops:
        for folder, _, names in sorted(os.walk(os.path.join(root, top))):
            for name in sorted(names):
                if name.endswith(endings):
                    yield os.path.relpath(os.path.join(folder, name), root)


def tracked(root):
    got = subprocess.run(["git", "ls-files", "-z"], cwd=root, capture_output=True)
    if got.returncode == 0:
        return sorted(n for n in got.stdout.decode().split("\0") if n)
    return [f for f in walk(root, ".", endings="") if not f.startswith(("build", "./build", ".git/"))]


def read(root, file):
    with open(os.path.join(root, file), encoding="utf-8") as f:
        return f.read()


def room_of(folder):
    """The longest known room that `folder` (below src) lies in."""
    best = None
    for room in ROOMS:
        if (folder == room or folder.startswith(room + "/")) and (best is None or len(room) > len(best)):
            best = room
    return best


def check_includes(root):
    for file in list(walk(root, "src", "include/ounce")):
        inside = os.path.dirname(file)
        public = inside == "include/ounce"
        here = HEADERS.get(os.path.basename(file)[:-2]) if public else room_of(os.path.relpath(inside, "src"))
        if here is None:
            yield f"{file}:1: stands in no room of the list in tests/check/sources.py"
            continue
        for number, line in enumerate(read(root, file).split("\n"), 1):
            found = re.match(r'\s*#\s*include\s+"([^"]+)"', line)
            if not found:
                continue
            name = found.group(1)
            if (file, name) in ALLOWED:
                continue
            if name.startswith("ounce/"):
                there = HEADERS.get(name[len("ounce/"):-2])
            elif os.path.exists(os.path.join(root, inside, name)):
                there = room_of(os.path.relpath(os.path.normpath(os.path.join(inside, os.path.dirname(name))), "src"))
            else:
                there = room_of(os.path.dirname(name))
            if there is None:
                yield f'{file}:{number}: includes "{name}", which stands in no room of the list in tests/check/sources.py'
            elif public and not name.startswith("ounce/"):
                yield f'{file}:{number}: a public header includes "{name}", a private one'
            elif ROOMS.index(there) > ROOMS.index(here):
                yield f'{file}:{number}: {here} includes "{name}" of {there}, a room below it'


def check_lists(root):
    path, declared = "src/cli/list.h", {}
    for file in walk(root, "src/cli", endings=(".c",)):
        for found in re.finditer(r"^const cli_command cli_(\w+)\s*=", read(root, file), re.M):
            declared[found.group(1)] = file
    if declared:
        listed = re.findall(r"\bX\(\s*(\w+)", re.sub(r"(?s)/\*.*?\*/", "", read(root, path)))
        if listed != sorted(declared):
            yield f"{path}:1: names {' '.join(listed)}; declared in src/cli, sorted, are {' '.join(sorted(declared))}"
    for room, kind in LISTED.items():
        declared = {}
        for file in walk(root, f"src/{room}", endings=(".c",)):
            for found in re.finditer(rf"^const oz_\w+ oz_{kind}_(\w+)\s*=", read(root, file), re.M):
                declared[found.group(1)] = file
        path = f"src/{room}/list.h"
        if not os.path.exists(os.path.join(root, path)):
            if declared:
                yield f"{path}:1: is missing, and {', '.join(sorted(declared))} are declared in that room"
            continue
        text = re.sub(r"(?s)/\*.*?\*/", "", read(root, path))
        listed = [n for n in re.findall(r"\bX\(\s*(\w+)", text.replace("(X)", ""))]
        if listed != sorted(listed):
            yield f"{path}:1: is not sorted: {' '.join(listed)}"
        for name in sorted(set(listed) - set(declared)):
            yield f"{path}:1: names {name}, but no file of {room} defines oz_{kind}_{name}"
        for name in sorted(set(declared) - set(listed)):
            yield f"{declared[name]}:1: defines oz_{kind}_{name}, but {path} does not name it"
        for name, file in sorted(declared.items()):
            if os.path.basename(file) != name + ".c":
                yield f"{file}:1: defines oz_{kind}_{name}; a technique stands in the file of its name, {name}.c"


def arguments(text, start):
    """The arguments of the call whose parenthesis opens at `start`, split at commas of the first level."""
    depth, i, piece, out = 0, start, "", []
    while i < len(text):
        c = text[i]
        if c in "\"'":
            j = i + 1
            while text[j] != c:
                j += 2 if text[j] == "\\" else 1
            piece += text[i:j + 1]
            i = j + 1
            continue
        if c in "([{":
            depth += 1
            if depth == 1:
                i += 1
                continue
        elif c in ")]}":
            depth -= 1
            if depth == 0:
                return out + [piece.strip()]
        elif c == "," and depth == 1:
            out.append(piece.strip())
            piece, i = "", i + 1
            continue
        piece += c
        i += 1
    return out


def check_messages(root):
    for file in walk(root, "src", endings=(".c", ".h")):
        text = read(root, file)
        for found in re.finditer(r"\boz_fail\(", text):
            line = text.count("\n", 0, found.start()) + 1
            given = arguments(text, found.end() - 1)
            if len(given) < 3 or file == "src/core/base/status.c" and not given[2].startswith('"'):
                continue
            pieces = re.findall(r'"((?:[^"\\]|\\.)*)"', given[2])
            if not pieces:
                continue                                  # a format handed down by the caller: checked where it is written
            for message in ([given[2]] if " ? " not in given[2] else given[2].split(" : ")):
                message = "".join(re.findall(r'"((?:[^"\\]|\\.)*)"', message))
                if not message:
                    continue
                bare = re.sub(r"%[-+ #0-9.*]*(?:hh|h|ll|l|z|j|t|L)?[a-zA-Z]?", " ", message.replace("%%", " "))
                words = re.findall(r"[A-Za-z]{2,}", bare)
                if "%" not in message.replace("%%", "") and not TECHNIQUE.match(message):
                    yield f'{file}:{line}: the message "{message}" names nothing: no file, tensor, key or value in it'
                elif re.search(r"\binvalid\b", message, re.I):
                    yield f'{file}:{line}: the message "{message}" says "invalid"; say what was found and what was expected'
                elif not words and message != "%s" or words and [w.lower() for w in words] in (["error"], ["failed"], ["bad"]):
                    yield f'{file}:{line}: the message "{message}" says nothing in words'


def check_sizes(root):
    for file in tracked(root):
        path = os.path.join(root, file)
        if not os.path.isfile(path):
            continue
        if os.path.getsize(path) > LARGEST_FILE:
            yield f"{file}:1: {os.path.getsize(path)} bytes; the largest tracked file is {LARGEST_FILE}"
    for file in walk(root, "src"):
        lines = read(root, file).count("\n")
        if lines > LONGEST_SOURCE:
            yield f"{file}:{lines}: {lines} lines; the longest source has {LONGEST_SOURCE}: one technique a file"


def check_format(root):
    # Public headers are laid out by hand: aligned comments are their documentation.
    files = list(walk(root, "src", "tests", "bench"))
    if not files:
        return
    got = subprocess.run(["clang-format-14", "--dry-run", "-Werror", "-ferror-limit=1"] + files, cwd=root, capture_output=True, text=True)
    for line in got.stderr.split("\n"):
        if re.match(r"[^ ]+:\d+:\d+: ", line):
            yield line.split(" [")[0] + " (run make format)"
    if got.returncode != 0 and "error:" not in got.stderr:
        yield f"clang-format-14:1: exit status {got.returncode}: {got.stderr.strip()[:200]}"


def check_speech(root):
    wrong = re.compile(r"/(?:work|root|home/\w+)/" + r"|\bTO" + r"DO\b|\bFIX" + r"ME\b|\bXX" + r"X\b")
    for file in tracked(root):
        if file == "LICENSE" or not re.search(r"\.(c|h|py|sh|md|yaml|txt|json)$|^(Makefile|tools/[\w/-]+|\.ci/run)$", file):
            continue
        try:
            text = read(root, file)
        except (UnicodeDecodeError, OSError):
            continue                                      # test data may be any bytes
        for found in wrong.finditer(text):
            yield f'{file}:{text.count(chr(10), 0, found.start()) + 1}: "{found.group(0)}" does not belong in the repository'


CHECKS = {"includes": check_includes, "lists": check_lists, "messages": check_messages, "sizes": check_sizes,
          "format": check_format, "speech": check_speech}

# A tree that breaks each check once, and the words its complaint must have.
BROKEN = {
    "includes": ("src/core/io/a.c", '#include "ounce/quantize.h"\n', "core/io includes"),
    "lists": ("src/quantize/solver/a.c", "const oz_solver oz_solver_a = {0};\n", "list.h"),
    "messages": ("src/core/io/a.c", 'int f(void) { return oz_fail(1, "", "the file cannot be read"); }\n', "names nothing"),
    "sizes": ("src/core/io/a.c", "int a;\n" * 701, "701 lines"),
    "format": ("src/core/io/a.c", "int  a ;\n", "a.c:1"),
    "speech": ("tools/a.sh", "cd /ro" + "ot/x\n", "does not belong"),
}
BROKEN_TOO = [
    ("includes", "include/ounce/base.h", '#include "core/io/writer.h"\n', "a private one"),
    ("includes", "src/core/base/a.c", '#include "core/io/writer.h"\n', "a room below"),
    ("messages", "src/core/io/a.c", 'int f(void) { return oz_fail(1, 0, "%s: invalid header", "x"); }\n', '"invalid"'),
    ("messages", "src/core/io/a.c", 'int f(void) { return oz_fail(1, 0, "%s: %d", "x", 1); }\n', "in words"),
    ("sizes", "tests/a.bin", "x" * (LARGEST_FILE + 1), "largest tracked"),
]


def can_fail():
    bad = 0
    for name, file, text, words in [(n,) + BROKEN[n] for n in CHECKS] + BROKEN_TOO:
        with tempfile.TemporaryDirectory() as root:
            os.makedirs(os.path.join(root, os.path.dirname(file)))
            with open(os.path.join(root, file), "w") as f:
                f.write(text)
            if name == "format":
                with open(os.path.join(root, ".clang-format"), "w") as f:
                    f.write("BasedOnStyle: LLVM\n")
            found = list(CHECKS[name](root))
            if len(found) == 0 or words not in found[0]:
                print(f'{name}: on {file} made to break it, expected a complaint with "{words}", got {found}')
                bad += 1
    return 1 if bad else 0


def main(words):
    if words == ["can-fail"]:
        return can_fail()
    if len(words) != 2 or words[0] not in CHECKS:
        print(__doc__, file=sys.stderr)
        return 2
    found = list(CHECKS[words[0]](words[1]))
    for line in found:
        print(line)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
