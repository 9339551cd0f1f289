#!/usr/bin/env python3
"""A store that is elsewhere as a cold home: glusterfs, or rclone.

    python3 tests/cold-store/run.py --store glusterfs --program target/debug/speedloader \\
        --venv tests/.venv --site DIR

Models lie on the store. Our daemon reads it through one client, mounted read-only; another client
stands for another machine. Each check is a line of the table that is printed, with the seconds that
it took. Whatever may hang is done by a process of its own with a limit.

Exit status: 0 all as promised, 1 something was not.
"""
import argparse
import contextlib
import hashlib
import importlib
import json
import os
import pathlib
import shutil
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
from processes import await_that, mounted  # noqa: E402

# Nothing that does not wait for the store takes nearly as long; whatever does takes for ever.
AT_ONCE_S = 20
LIMIT_S = 120
RESCAN = "2s"
# name: (path of the model below the store, what makes it)
MODELS = {
    "gguf": ("one.gguf", ["gguf", "--size", "8M", "--seed", "1"]),
    "split": ("split/three-00001-of-00003.gguf",
              ["gguf", "--size", "24M", "--splits", "3", "--seed", "2"]),
    "hf": ("org/sharded", ["hf", "--size", "16M", "--shards", "3", "--seed", "3"]),
}
RESIDENT, COLD = "one.gguf", "split/three-00002-of-00003.gguf"


class Failure(Exception):
    """A sentence about what went wrong."""


# --- what a child does, because it may hang -----------------------------------------------------

def picture(root, times_ns=1):
    """Path below `root`: size and time of change, as exact as that."""
    found = {}
    for directory, _, names in os.walk(root, onerror=lambda error: sys.exit(str(error))):
        for name in names:
            path = os.path.join(directory, name)
            seen = os.stat(path)
            found[os.path.relpath(path, root)] = [seen.st_size, seen.st_mtime_ns // times_ns]
    return found


def digest(path):
    with open(path, "rb", buffering=0) as file:
        # From the store, not from what the kernel remembers of it.
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        return hashlib.file_digest(file, "sha256").hexdigest()


def digests(root):
    return {path: digest(os.path.join(root, path)) for path in picture(root)}


CHILD = {
    "picture": picture, "digest": digest, "digests": digests,
    "picture_of_seconds": lambda root: picture(root, 10**9),
}


def begin(what, path):
    return subprocess.Popen(
        [sys.executable, __file__, "--child", what, path], stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True)


def end(child, limit_s=LIMIT_S):
    try:
        out, error = child.communicate(timeout=limit_s)
    except subprocess.TimeoutExpired:
        child.kill()
        raise Failure(f"{child.args[-2]} of {child.args[-1]}: not done in {limit_s} s") from None
    if child.returncode != 0:
        raise Failure(f"{child.args[-2]} of {child.args[-1]}: {error.strip().splitlines()[-1]}")
    return json.loads(out)


def ask(what, path, limit_s=LIMIT_S):
    return end(begin(what, path), limit_s)


# --- the run ------------------------------------------------------------------------------------

class Run:
    def __init__(self, args):
        self.args, self.site = args, args.site.absolute()
        self.store = importlib.import_module(args.store).Store(self.site / "store")
        # The client that our daemon reads, and where another machine sees the store.
        self.cold, self.other = self.site / "cold", None
        self.mnt = self.site / "mnt"
        self.rows = []

    # --- tools ----------------------------------------------------------------------------------

    def speedloader(self, *argv, limit_s=LIMIT_S):
        command = [self.args.program, "--config", self.site / "config.toml", *argv]
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, check=False, timeout=limit_s,
                stdin=subprocess.DEVNULL)
        except subprocess.TimeoutExpired:
            raise Failure(f"speedloader {argv[0]}: not done in {limit_s} s") from None
        if done.returncode != 0:
            raise Failure(f"speedloader {argv[0]}: {(done.stderr or done.stdout).strip()}")
        return done.stdout

    def serving(self, path):
        """Pools whose copy of the file is given to new opens."""
        places = json.loads(self.speedloader("which", path, "--json"))
        return [replica["pool"] for file in places["files"] if file["home"].endswith(path)
                for replica in file["replicas"] if replica["state"] == "serving"]

    def picture(self, root, limit_s=LIMIT_S):
        return ask("picture" if self.store.TIMES_NS == 1 else "picture_of_seconds", root, limit_s)

    @contextlib.contextmanager
    def check(self, what):
        start = time.monotonic()
        try:
            yield
        except BaseException as error:
            self.rows.append((what, time.monotonic() - start, f"FAILED: {error}"))
            raise
        self.rows.append((what, time.monotonic() - start, "as promised"))

    @staticmethod
    def same(found, wanted, what):
        if found != wanted:
            differs = [k for k in {*found, *wanted} if found.get(k) != wanted.get(k)] \
                if isinstance(wanted, dict) else [f"{found} instead of {wanted}"]
            raise Failure(f"{what}: {', '.join(map(str, differs))}")

    def goes_on(self, names, digests_):
        """What does not need the store is done at once."""
        self.same(self.picture(self.mnt, AT_ONCE_S), names, "listing")
        self.same(ask("digest", self.mnt / RESIDENT, AT_ONCE_S), digests_[RESIDENT], "a resident file")
        self.speedloader("status", limit_s=AT_ONCE_S)
        self.speedloader("models", limit_s=AT_ONCE_S)

    # --- the story ------------------------------------------------------------------------------

    def run(self):
        self.prepare()
        names, contents = self.read()
        names, contents = self.change(names, contents)
        if self.store.REPLICATED:
            self.lose_a_brick(contents)
        self.stop_all(names, contents)
        self.kill_all(names, contents)
        self.lose_the_client(names, contents)
        self.finish(names, contents)

    def prepare(self):
        self.store.start()
        self.other = self.store.another_client(self.site / "other")
        self.store.mount(self.cold)
        python = self.args.venv / "base/bin/python"
        for path, made in MODELS.values():
            # A split set is named without its numbers.
            target = self.other / path.replace("-00001-of-00003", "")
            target.parent.mkdir(parents=True, exist_ok=True)
            subprocess.run([python, HERE.parent / "engines/models.py", *made, target], check=True,
                           stdout=subprocess.DEVNULL, timeout=LIMIT_S)
        for name in ("models", "state", "mnt"):
            (self.site / name).mkdir()
        (self.site / "config.toml").write_text(f"""\
models_dir = "{self.site}/models"
mountpoint = "{self.mnt}"
state_dir = "{self.site}/state"

[[cold]]
path = "{self.cold}"
rescan_interval = "{RESCAN}"

[[pool]]
name = "p"
path = "{self.site}/pool"
capacity = "256MiB"

[policy]
enabled = false
memory_reserve = "0B"

[control]
socket = "{self.site}/sock"

[http]
enabled = false
""")
        self.speedloader("mount")

    def read(self):
        names, contents = self.picture(self.other), ask("digests", self.other)
        with self.check("listing, sizes and times are the store's"):
            self.same(self.picture(self.mnt), names, "listing")
        with self.check("cold: every byte is the store's"):
            self.same(ask("digests", self.mnt), contents, "cold")
        with self.check("promoted: every byte is the store's"):
            for path, _ in MODELS.values():
                self.speedloader("promote", "--wait", path)
            self.same(ask("digests", self.mnt), contents, "promoted")
            for path in contents:
                if path.endswith((".gguf", ".safetensors")):
                    self.same(self.serving(path), ["p"], f"pools of {path}")
        with self.check("safetensors loads the same tensors through the mount"):
            where = [root / MODELS["hf"][0] for root in (self.other, self.mnt)]
            self.same(self.load(where[1]), self.load(where[0]), "tensors")
        with self.check("demoted: every byte is the store's"):
            for name in ("split", "hf"):
                self.speedloader("demote", MODELS[name][0])
            self.same(ask("digests", self.mnt), contents, "demoted")
            self.same(self.serving(COLD), [], f"pools of {COLD}")
        return names, contents

    def load(self, path):
        python = self.args.venv / "base/bin/python"
        done = subprocess.run(
            [python, HERE.parent / "engines/load.py", "safetensors", path], capture_output=True,
            text=True, check=True, timeout=LIMIT_S)
        return done.stdout

    def change(self, names, contents):
        """Another machine changes a file that is resident, adds one and removes one."""
        before, size = contents[RESIDENT], names[RESIDENT][0]
        held = open(self.mnt / RESIDENT, "rb", buffering=0)
        other = os.urandom(size)
        with self.check("another client's change is seen, without being told"):
            (self.other / RESIDENT).write_bytes(other)
            new = hashlib.sha256(other).hexdigest()
            await_that("the change", lambda: ask("digest", self.mnt / RESIDENT) == new)
        with self.check("and the old copy is given to no later open"):
            self.same(self.serving(RESIDENT), [], f"pools of {RESIDENT}")
            for _ in range(3):
                self.same(ask("digest", self.mnt / RESIDENT), new, RESIDENT)
            self.same(hashlib.file_digest(held, "sha256").hexdigest(), before, "the handle held")
            held.close()
            self.speedloader("promote", "--wait", RESIDENT)
            self.same(ask("digest", self.mnt / RESIDENT), new, "the new copy")
        with self.check("so are a new name and one that is gone"):
            (self.other / "new.gguf").write_bytes(b"GGUF")
            await_that("the new name", lambda: "new.gguf" in self.picture(self.mnt))
            (self.other / "new.gguf").unlink()
            await_that("its end", lambda: "new.gguf" not in self.picture(self.mnt))
        return self.picture(self.other), ask("digests", self.other)

    def lose_a_brick(self, contents):
        with self.check("one of two bricks is killed: cold reads have the other"):
            self.store.kill(1)
            self.same(ask("digests", self.mnt), contents, "with one brick")
            self.store.start(1)
            self.store.await_connections()

    def stop_all(self, names, contents):
        with self.check("the store hangs: all that is resident goes on at once"):
            self.store.stop()
            waiting = begin("digest", self.mnt / COLD)
            self.goes_on(names, contents)
            if waiting.poll() is not None:
                raise Failure("a cold read did not wait")
        with self.check("it answers again: who waited has the right bytes"):
            self.store.go_on()
            self.same(end(waiting), contents[COLD], COLD)
            self.same(ask("digests", self.mnt), contents, "afterwards")

    def kill_all(self, names, contents):
        with self.check("the store is gone: nothing resident is lost, rescans included"):
            self.store.kill()
            asked = begin("digest", self.mnt / COLD)
            self.speedloader("rescan")
            self.goes_on(names, contents)
            self.same(self.serving(RESIDENT), ["p"], f"pools of {RESIDENT}")
            if asked.poll() == 0:
                raise Failure("a cold read went on without a store")
        with self.check("it is back: cold reads work again"):
            self.store.start()
            self.store.await_connections()
            # Who asked meanwhile was told an error or had to wait: that is up to the store's client.
            answered = asked.wait(LIMIT_S) == 0
            if answered:
                self.same(end(asked), contents[COLD], COLD)
            self.same(ask("digests", self.mnt), contents, "afterwards")

    def lose_the_client(self, names, contents):
        with self.check("the store's client dies: nothing resident is lost"):
            self.store.kill_client(self.cold)
            self.speedloader("rescan")
            self.goes_on(names, contents)
        with self.check("mounted again in its place: cold reads work again"):
            self.store.unmount(self.cold)
            self.store.mount(self.cold)
            self.speedloader("rescan")
            self.same(ask("digests", self.mnt), contents, "afterwards")

    def finish(self, names, contents):
        with self.check("the daemon ends, and has left the store as it was"):
            self.speedloader("umount")
            self.same(self.picture(self.other), names, "sizes and times")
            self.same(ask("digests", self.other), contents, "contents")
        with self.check("nothing is mounted or running afterwards"):
            self.store.end()
            left = [where for where in mounted() if where.startswith(f"{self.site}{os.sep}")]
            self.same(left, [], "mounts")
            self.same(self.processes(), [], "processes")

    # --- the end --------------------------------------------------------------------------------

    def processes(self):
        """Those that have something below our directory in their arguments."""
        found = []
        for file in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
            with contextlib.suppress(OSError):
                if os.fsencode(f"{self.site}{os.sep}") in file.read_bytes():
                    found.append(int(file.parent.name))
        return found

    def clean(self):
        """After a failure at any point."""
        with contextlib.suppress(Failure, OSError):
            if (self.site / "sock").exists():
                self.store.go_on()
                self.speedloader("umount", limit_s=AT_ONCE_S)
        self.store.end()
        for pid in self.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, 9)
        await_that("our processes are gone", lambda: not self.processes())
        shutil.rmtree(self.site)

    def table(self):
        print(f"{self.store.NAME}, as a cold home")
        for what, took, result in self.rows:
            print(f"{what:<64} {took:6.2f} s  {result}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--store", choices=["glusterfs", "rclone"])
    parser.add_argument("--program", type=pathlib.Path)
    parser.add_argument("--venv", type=pathlib.Path)
    parser.add_argument("--site", type=pathlib.Path)
    parser.add_argument("--child", nargs=2)
    args = parser.parse_args()
    if args.child:
        print(json.dumps(CHILD[args.child[0]](args.child[1])))
        return 0
    args.program, args.venv = args.program.absolute(), args.venv.absolute()
    run = Run(args)
    failed = 0
    try:
        run.run()
    except (Failure, AssertionError, OSError, subprocess.SubprocessError) as error:
        print(f"FAILED: {error}", file=sys.stderr)
        failed = 1
    finally:
        run.clean()
    run.table()
    return failed


if __name__ == "__main__":
    sys.exit(main())
