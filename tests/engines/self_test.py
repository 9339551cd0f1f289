#!/usr/bin/env python3
"""Show that run.py fires: a weight that changes, a command that fails or hangs must fail the run.

    python3 tests/engines/self_test.py VENV      # what setup.py was given

Needs no mount: a directory stands for both home and mount, and a "promotion" spoils the file.
"""
import json
import pathlib
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
SPOIL = """
import sys
with open(sys.argv[1], "r+b") as file:
    file.seek(-4096, 2)
    weights = file.read(4096)
    file.seek(-4096, 2)
    file.write(bytes(byte ^ 0x80 for byte in weights))
"""
# name: (promote command, exit status, what the report must say)
CASES = {
    "equal": (["true"], 0, None),
    "spoiled weights": ([sys.executable, "{spoil}", "{{mounted}}"], 1, "became"),
    "failing command": (["false"], 1, "exit status 1"),
    "absent command": (["/nowhere/speedloader"], 1, "No such file"),
    "hanging command": (["sleep", "1000"], 1, "not done in"),
    "wrong template": (["true", "{{nonsense}}"], 1, "nonsense"),
}


def main():
    venv, failures = sys.argv[1], 0
    with tempfile.TemporaryDirectory() as directory:
        top = pathlib.Path(directory)
        spoil, report = top / "spoil.py", top / "report.json"
        spoil.write_text(SPOIL)
        for name, (promote, status, wanted) in CASES.items():
            home = top / name.replace(" ", "-")
            home.mkdir()
            promote = " ".join(word.format(spoil=spoil) for word in promote)
            done = subprocess.run(
                [sys.executable, HERE / "run.py", "--venv", venv, "--home", home, "--mount", home,
                 "--promote-cmd", promote, "--demote-cmd", "true", "--models", "gguf",
                 "--loaders", "llama-mmap", "--no-ollama", "--timeout-s", "30", "--json", report],
                capture_output=True, text=True, check=False)
            faults = json.loads(report.read_text())["faults"]
            told = wanted is None or any(wanted in fault for fault in faults)
            left = list(home.iterdir())
            good = done.returncode == status and told and not left
            failures += not good
            print(f"{'ok' if good else 'FAILED':6} {name}: exit status {done.returncode}")
            if not good:
                print(done.stdout, done.stderr, f"left: {left}", sep="\n")
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
