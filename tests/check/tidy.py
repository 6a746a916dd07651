#!/usr/bin/python3
"""Runs clang-tidy-14 (settings in .clang-tidy) on every file of src that changed since it last passed in this build folder.

usage: tidy.py SOURCE_FOLDER BUILD_FOLDER      (the build folder has compile_commands.json)

A file's stamp is the hash of its text, of all headers and of .clang-tidy; stamps lie in BUILD_FOLDER/tidy.
"""
import concurrent.futures
import glob
import hashlib
import os
import subprocess
import sys


def main(source, build):
    if not os.environ.get("OUNCE_FULL"):
        print("clang-tidy runs in make check-full (OUNCE_FULL=1)")
        return 0
    headers = hashlib.sha256()
    for path in sorted(glob.glob(f"{source}/src/**/*.h", recursive=True) + glob.glob(f"{source}/include/**/*.h", recursive=True)) + [f"{source}/.clang-tidy"]:
        with open(path, "rb") as f:
            headers.update(f.read())
    stamps = os.path.join(build, "tidy")
    os.makedirs(stamps, exist_ok=True)

    def one(path):
        with open(path, "rb") as f:
            stamp = os.path.join(stamps, hashlib.sha256(headers.digest() + f.read()).hexdigest())
        if os.path.exists(stamp):
            return ""
        got = subprocess.run(["clang-tidy-14", "--quiet", "-p", build, path], capture_output=True, text=True)
        if got.returncode == 0 and "warning:" not in got.stdout:
            open(stamp, "w").close()
            return ""
        return got.stdout + ("" if got.stdout else got.stderr)

    files = sorted(glob.glob(f"{source}/src/**/*.c", recursive=True))
    # Instruction sets that this processor's build leaves out have no compile command.
    with open(os.path.join(build, "compile_commands.json")) as f:
        known = f.read()
    files = [f for f in files if f in known]
    bad = 0
    with concurrent.futures.ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        for text in pool.map(one, files):
            if text:
                print(text)
                bad += 1
    print(f"clang-tidy: {len(files)} files, {bad} with findings")
    return 1 if bad or not files else 0


if __name__ == "__main__":
    sys.exit(main(os.path.abspath(sys.argv[1]), os.path.abspath(sys.argv[2])))
