#!/usr/bin/env python3
"""Turns the library that cargo built into a file that DuckDB loads.

    python3 duckdb_ext/stamp.py [--library FILE] [--output FOLDER]

Writes FOLDER/soa.duckdb_extension: the library without its symbols, followed by the 512 bytes in which
DuckDB looks for the release, platform and interface an extension was made for. The release comes from
src/version.rs, the extension's version from the workspace's manifest.
"""

import argparse
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

CRATE = Path(__file__).resolve().parent
WORKSPACE = CRATE.parent

# DuckDB takes the entry point's name from the file's name.
FILE_NAME = "soa.duckdb_extension"
# The second version of DuckDB's C API promises nothing beyond one release.
ABI = "C_STRUCT_UNSTABLE"
# The layout of the footer itself.
FOOTER_VERSION = "4"
FIELD_BYTES = 32
SIGNATURE_BYTES = 256


def only_match(pattern, path):
    found = re.search(pattern, path.read_text(encoding="utf-8"), re.MULTILINE)
    if found is None:
        sys.exit(f"stamp: there is nothing like {pattern!r} in {path}")
    return found.group(1)


def duckdb_version():
    return only_match(r'"(v\d+\.\d+\.\d+)"', CRATE / "src" / "version.rs")


def extension_version():
    return "v" + only_match(r'^version = "([^"]+)"', WORKSPACE / "Cargo.toml")


def duckdb_platform():
    systems = {"Linux": "linux", "Darwin": "osx"}
    machines = {"x86_64": "amd64", "AMD64": "amd64", "aarch64": "arm64", "arm64": "arm64"}
    try:
        return f"{systems[platform.system()]}_{machines[platform.machine()]}"
    except KeyError:
        sys.exit(f"stamp: no DuckDB platform is known for {platform.system()} on {platform.machine()}")


def default_library():
    target = Path(os.environ.get("CARGO_TARGET_DIR", WORKSPACE / "target"))
    return target / "release" / ("libsoa_duckdb.dylib" if platform.system() == "Darwin" else "libsoa_duckdb.so")


def footer(abi, version, duckdb, system):
    """Eight fields, the first three unused, then room for a signature."""
    fields = ["", "", "", abi, version, duckdb, system, FOOTER_VERSION]
    encoded = [field.encode("ascii") for field in fields]
    if any(len(field) > FIELD_BYTES for field in encoded):
        sys.exit(f"stamp: a field is longer than {FIELD_BYTES} bytes: {fields}")
    return b"".join(field.ljust(FIELD_BYTES, b"\0") for field in encoded) + bytes(SIGNATURE_BYTES)


def stamp(library, output):
    output.mkdir(parents=True, exist_ok=True)
    # A file under the final name is always whole: it is written beside it and renamed.
    with tempfile.TemporaryDirectory(dir=output, prefix=".stamp-") as scratch:
        stripped = Path(scratch) / FILE_NAME
        shutil.copyfile(library, stripped)
        subprocess.run(["strip", "-x" if platform.system() == "Darwin" else "--strip-all", stripped], check=True)
        with stripped.open("ab") as file:
            file.write(footer(ABI, extension_version(), duckdb_version(), duckdb_platform()))
            file.flush()
            os.fsync(file.fileno())
        os.replace(stripped, output / FILE_NAME)


def main():
    parser = argparse.ArgumentParser(description="Makes a loadable DuckDB extension of the library that cargo built.")
    parser.add_argument("--library", type=Path, default=default_library(), help="the library (default: %(default)s)")
    parser.add_argument("--output", type=Path, default=WORKSPACE / "dist", help="the folder (default: %(default)s)")
    arguments = parser.parse_args()
    if not arguments.library.is_file():
        sys.exit(f"stamp: there is no {arguments.library}; run cargo build --release -p duckdb_ext")
    stamp(arguments.library, arguments.output)
    print(f"{arguments.output / FILE_NAME}: for DuckDB {duckdb_version()} on {duckdb_platform()}")


if __name__ == "__main__":
    main()
