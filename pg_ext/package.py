"""Puts the Postgres extension together: the library, its control file and its script, in the layout that Postgres expects.

    DIR/lib/soa_fdw.so
    DIR/share/extension/soa_fdw.control
    DIR/share/extension/soa_fdw--VERSION.sql
    DIR/share/extension/soa_fdw--OLD--NEW.sql, for ALTER EXTENSION soa_fdw UPDATE: one for each release that changed the script

To install, copy lib/ to `pg_config --pkglibdir` and share/ to `pg_config --sharedir`; or, from Postgres 18 on, name the two
folders in the settings dynamic_library_path and extension_control_path.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import tomllib
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent


def version() -> str:
    """The version of the workspace, which is the extension's."""
    with open(ROOT / "Cargo.toml", "rb") as file:
        return tomllib.load(file)["workspace"]["package"]["version"]


def package(library: Path, output: Path) -> None:
    shutil.rmtree(output, ignore_errors=True)
    scripts = output / "share" / "extension"
    scripts.mkdir(parents=True)
    (output / "lib").mkdir()
    shutil.copyfile(library, output / "lib" / "soa_fdw.so")
    subprocess.run(["strip", "--strip-unneeded", output / "lib" / "soa_fdw.so"], check=True)
    (output / "lib" / "soa_fdw.so").chmod(0o755)
    control = (HERE / "soa_fdw.control").read_text(encoding="utf-8").replace("@CARGO_VERSION@", version())
    (scripts / "soa_fdw.control").write_text(control, encoding="utf-8")
    sources = ROOT / "sql" / "postgres"
    shutil.copyfile(sources / "soa_fdw.sql", scripts / f"soa_fdw--{version()}.sql")
    for update in sources.glob("soa_fdw--*--*.sql"):
        shutil.copyfile(update, scripts / update.name)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--library", type=Path, required=True, help="the built libsoa_fdw.so")
    parser.add_argument("--output", type=Path, required=True, help="the folder that is made anew")
    arguments = parser.parse_args()
    package(arguments.library, arguments.output)
