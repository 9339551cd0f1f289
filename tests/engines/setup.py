#!/usr/bin/env python3
"""Make the virtual environments of the engine tests; a second call does nothing.

    python3 tests/engines/setup.py DIR           # DIR/base: llama.cpp, mistral.rs, safetensors
    python3 tests/engines/setup.py DIR --torch   # and DIR/torch, with Debian's python3-torch

Prints the interpreters, one a line. Each environment is stamped with the digest of its
requirements, written last: an interrupted set-up is made again from the start.
"""
import argparse
import hashlib
import os
import pathlib
import shutil
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
DEBIAN_PYTHON = "/usr/bin/python3"
# transformers beyond 4.38 does not import with torch 1.13 on Python 3.11.
TORCH_WITH_DEPENDENCIES = ["transformers==4.38.2", "safetensors==0.8.0", "typer==0.29.2"]


def run(*argv):
    # Standard output is for the interpreters.
    subprocess.run([str(a) for a in argv], check=True, stdout=sys.stderr)


def digest_of(*parts):
    text = "\0".join(str(part) for part in parts)
    return hashlib.sha256(text.encode()).hexdigest()


def environment(directory, python, options, installs):
    """Make one environment unless its stamp says that it is made; answer its interpreter."""
    wanted = digest_of(python, options, installs)
    stamp, interpreter = directory / "stamp", directory / "bin" / "python"
    if stamp.is_file() and stamp.read_text() == wanted and interpreter.exists():
        return interpreter
    shutil.rmtree(directory, ignore_errors=True)
    run(python, "-m", "venv", *options, directory)
    for install in installs:
        run(interpreter, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *install)
    part = directory / "stamp.part"
    part.write_text(wanted)
    os.replace(part, stamp)
    return interpreter


def lines_of(name):
    lines = (HERE / name).read_text().splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def main():
    ap = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    ap.add_argument("directory", type=pathlib.Path)
    ap.add_argument("--torch", action="store_true", help="also transformers and the streamers")
    args = ap.parse_args()
    # Absolute, but with links kept: an environment must be called by the name it was made under.
    directory = pathlib.Path(os.path.abspath(args.directory))
    directory.mkdir(parents=True, exist_ok=True)
    print(environment(directory / "base", sys.executable, [], [lines_of("requirements.txt")]))
    if args.torch:
        probe = [DEBIAN_PYTHON, "-c", "import torch"]
        if subprocess.run(probe, stderr=subprocess.DEVNULL, check=False).returncode != 0:
            sys.exit("torch is missing: apt-get install --no-install-recommends python3-torch python3-venv")
        # --no-deps: the streamers ask for a newer torch than they need.
        installs = [TORCH_WITH_DEPENDENCIES, ["--no-deps", *lines_of("requirements-torch.txt")]]
        options = ["--system-site-packages"]
        print(environment(directory / "torch", DEBIAN_PYTHON, options, installs))


if __name__ == "__main__":
    main()
