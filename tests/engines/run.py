#!/usr/bin/env python3
"""Load models with real engines from a home and through a mount of it, and compare every result.

    python3 tests/engines/run.py --venv DIR --home DIR --mount DIR \\
        --promote-cmd 'speedloader promote --wait {path}' --demote-cmd 'speedloader demote {path}'

Every loader reads every model that suits it: from the home (the reference), then through the mount
before, after and *during* promotion, and after and *during* demotion. Tokens, log-probabilities and
tensor hashes must be the same each time. Then Ollama's operations are replayed on a store in the
mount and on a plain directory: the same answers and the same files must come out, and llama.cpp must
load the blob.

Commands are templates for argument vectors (no shell): `{path}` is the model's path relative to the
mount, `{mounted}` the absolute one, `{home}` and `{mount}` the directories. A promote command must
return when the model is resident. Without these commands only reading through the mount is compared.

The home may be a cold one. With --cold DIR (another home of the same mount) a second store is seeded
there, and replayed upon through the mount: a store that is partly cold, of which no byte may change.

Exit status: 0 all equal, 1 something differs, 2 wrong use. --json FILE keeps all results.
"""
import argparse
import contextlib
import hashlib
import itertools
import json
import os
import pathlib
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
import ollama_store  # noqa: E402

TOP = "engine-tests"  # what is made lies below this directory, and is removed at the end
LLAMA = ["llama-mmap", "llama-none", "llama-dio", "llama-mlock"]
TENSORS = ["mistralrs", "safetensors", "torch", "transformers", "runai", "fastsafetensors"]
# name: (path, what makes it, loaders)
MODELS = {
    "gguf": (f"{TOP}/one.gguf", ["gguf", "--size", "8M", "--seed", "1"], LLAMA),
    "split": (f"{TOP}/split/three-00001-of-00003.gguf",
              ["gguf", "--size", "24M", "--splits", "3", "--seed", "2"], LLAMA),
    "hf": (f"{TOP}/org/sharded", ["hf", "--size", "16M", "--shards", "3", "--seed", "3"], TENSORS),
}


class Failure(Exception):
    """A sentence about what went wrong."""


class Run:
    def __init__(self, args):
        self.args = args
        self.home, self.mount = args.home.absolute(), args.mount.absolute()
        self.results, self.faults = [], []
        self.pythons = {}  # loader -> interpreter

    # --- processes ------------------------------------------------------------------------------

    def command(self, argv):
        """Run to the end; answer standard output. A hang is a failure, not a wait."""
        try:
            done = subprocess.run(
                [str(a) for a in argv], capture_output=True, text=True, check=False,
                timeout=self.args.timeout_s)
        except subprocess.TimeoutExpired:
            raise Failure(f"{shlex.join(map(str, argv))}: not done in {self.args.timeout_s} s") from None
        except OSError as error:
            raise Failure(f"{argv[0]}: {error}") from None
        if done.returncode != 0:
            tail = " | ".join((done.stderr or done.stdout).strip().splitlines()[-3:])
            raise Failure(f"{shlex.join(map(str, argv))}: exit status {done.returncode}: {tail}")
        return done.stdout

    def move(self, template, path):
        """Fill in a promote or demote template and run it."""
        values = {"path": path, "mounted": str(self.mount / path), "home": str(self.home),
                  "mount": str(self.mount)}
        try:
            argv = [word.format_map(values) for word in shlex.split(template)]
        except (KeyError, ValueError) as error:
            raise Failure(f"template {template!r}: {error}; there are {' '.join(values)}") from None
        self.command(argv)

    def load(self, loaders, path):
        """Loader -> what it answers for a path. One process for all of an interpreter: on a small
        machine most of a load is the import."""
        results = {}
        for python in dict.fromkeys(self.pythons[loader] for loader in loaders):
            own = [loader for loader in loaders if self.pythons[loader] == python]
            output = self.command([python, HERE / "load.py", ",".join(own), path])
            lines = [line for line in output.splitlines() if line.startswith('{"loader": ')]
            results |= {result["loader"]: result for result in map(json.loads, lines)}
        if set(results) != set(loaders):
            raise Failure(f"{path}: no answer of {' '.join(sorted(set(loaders) - set(results)))}")
        return results

    # --- what is checked --------------------------------------------------------------------------

    def check(self, what, where, expected, actual):
        same = expected == actual
        self.results.append({"what": what, "where": where, "same": same, "result": actual})
        print(f"{'same' if same else 'DIFFERS':8} {what:34} {where}", flush=True)
        if not same:
            self.faults.append(f"{what}, {where}: {expected} became {actual}")

    @contextlib.contextmanager
    def guarded(self, what, where):
        """A failure inside is a fault of the run, which goes on."""
        try:
            yield
        except (Failure, OSError, ValueError) as error:
            self.results.append({"what": what, "where": where, "same": False, "error": str(error)})
            self.faults.append(f"{what}, {where}: {error}")
            print(f"{'FAILED':8} {what:34} {where}: {error}", flush=True)

    def find_loaders(self):
        wanted = set(self.args.loaders.split(",")) if self.args.loaders else set(LLAMA + TENSORS)
        for name in ("base", "torch"):
            python = self.args.venv / name / "bin" / "python"
            if python.exists():
                for loader in json.loads(self.command([python, HERE / "load.py", "--available"])):
                    self.pythons.setdefault(loader, python)
        self.pythons = {k: v for k, v in self.pythons.items() if k in wanted}
        if not self.pythons:
            raise Failure(f"no engine in {self.args.venv}: run tests/engines/setup.py {self.args.venv}")
        absent = sorted(wanted - set(self.pythons))
        print(f"loaders: {' '.join(self.pythons)}" + (f"; absent: {' '.join(absent)}" if absent else ""))

    def make_models(self):
        python = self.args.venv / "base" / "bin" / "python"
        for path, make, _ in MODELS.values():
            target = self.home / path
            (target if make[0] == "hf" else target.parent).mkdir(parents=True, exist_ok=True)
            out = target.with_name(target.name.replace("-00001-of-00003", ""))
            self.command([python, HERE / "models.py", *make, out])
        if self.args.rescan_cmd:
            self.move(self.args.rescan_cmd, TOP)
        self.await_tree()

    def await_tree(self):
        """Wait until the mount shows what was made in the home behind its back."""
        wanted = tree_of(self.home / TOP)
        deadline = time.monotonic() + self.args.timeout_s
        while tree_of(self.mount / TOP) != wanted:
            if time.monotonic() > deadline:
                raise Failure(f"{self.mount / TOP} does not show the files of {self.home / TOP}")
            time.sleep(0.05)

    def compare_model(self, name):
        path, _, loaders = MODELS[name]
        loaders = [loader for loader in loaders if loader in self.pythons]
        if not loaders:
            return
        expected = self.load(loaders, self.home / path)

        def compare(where):
            with self.guarded(name, where):
                actual = self.load(loaders, self.mount / path)
                for loader in loaders:
                    self.check(f"{name} {loader}", where, expected[loader], actual[loader])

        compare("mount, before")
        if not self.args.promote_cmd:
            return
        self.compare_while(compare, "mount, during promotion", self.args.promote_cmd, path)
        compare("mount, after promotion")
        self.compare_while(compare, "mount, during demotion", self.args.demote_cmd, path)
        compare("mount, after demotion")
        self.compare_while(compare, "mount, while moved to and fro", None, path)

    def compare_while(self, compare, where, template, path):
        """Compare while a move runs: once for a template, else to and fro until all are compared."""
        templates = [template] if template else itertools.cycle(
            [self.args.promote_cmd, self.args.demote_cmd])
        done, error = threading.Event(), []

        def moves():
            try:
                for one in templates:
                    if done.is_set() and template is None:
                        return
                    self.move(one, path)
            except Failure as failure:
                error.append(failure)

        thread = threading.Thread(target=moves)
        thread.start()
        compare(where)
        done.set()
        thread.join()
        with self.guarded("move", where):
            for failure in error:
                raise failure

    # --- Ollama's store ----------------------------------------------------------------------------

    def compare_store(self, seed=None):
        """Replay on a plain directory and on the mount; `seed` is a cold home of the mount."""
        what = "ollama" if seed is None else "ollama, partly cold"
        place = f"{TOP}/ollama" if seed is None else f"{TOP}/ollama-cold"
        gguf = self.home / MODELS["gguf"][0]
        other = self.home / MODELS["split"][0]
        with tempfile.TemporaryDirectory() as directory:
            plain = pathlib.Path(directory) / "plain"
            before = None
            if seed is not None:
                for root in (plain, seed / place):
                    ollama_store.Store(str(root)).pull("seed", str(other))
                before = fingerprint(seed / place)
                if self.args.rescan_cmd:
                    self.move(self.args.rescan_cmd, place)
                self.await_seed(seed / place, self.mount / place)
            expected = self.replay(plain, place, gguf, seed is not None, None)
            actual = self.replay(self.mount / place, place, gguf, seed is not None, what)
            for step, result in expected.items():
                self.check(f"{what}: {step}", "mount", result, actual.get(step))
            if before is not None:
                self.check(f"{what}: cold home unchanged", "cold", before, fingerprint(seed / place))

    def await_seed(self, cold, mounted):
        deadline = time.monotonic() + self.args.timeout_s
        while not tree_of(cold).items() <= tree_of(mounted).items():
            if time.monotonic() > deadline:
                raise Failure(f"{mounted} does not show the files of {cold}")
            time.sleep(0.05)

    def replay(self, root, place, gguf, seeded, moving):
        """The steps and what each leaves behind; with `moving` the model is promoted between."""
        store = ollama_store.Store(str(root), part_bytes_min=1_000_000)
        answers = {}

        def note(step, answer=None):
            answers[step] = {"answer": answer, "tags": store.list(), "corrupt": store.corrupt(),
                             "files": names_of(root)}

        try:
            store.pull("tiny:1b", str(gguf), interrupt=True)
        except ollama_store.Interrupted:
            note("pull, interrupted")
        store.pull("tiny:1b", str(gguf))
        note("pull, resumed")
        if not seeded:
            # Layers that are there already are touched; a cold one refuses that, as it must.
            store.create("made", str(gguf))
            note("create")
        store.cp("tiny:1b", "copy")
        note("cp")
        blob = pathlib.Path(store.show("tiny:1b"))
        note("show", blob.name)
        relative = f"{place}/blobs/{blob.name}"
        loaders = [loader for loader in LLAMA if loader in self.pythons]
        for loader, answer in self.load(loaders, blob).items():
            answers[f"{loader} from blob"] = answer
        if moving and self.args.promote_cmd:
            self.move(self.args.promote_cmd, relative)
        for loader, answer in self.load(loaders, blob).items():
            answers[f"{loader} from resident blob"] = answer
        store.rm("tiny:1b")
        note("rm of a tag whose blobs are shared")
        if moving and self.args.demote_cmd:
            self.move(self.args.demote_cmd, relative)
        if seeded:
            seed = pathlib.Path(store.show("seed"))
            note("show seed", seed.name)
        age_blobs(root, seeded)
        store.serve()
        note("serve")
        store.rm("copy")
        note("rm")
        return answers

    def clean_up(self):
        for top in (self.mount / TOP, self.home / TOP, *([self.args.cold / TOP] if self.args.cold else [])):
            shutil.rmtree(top, ignore_errors=True)


def tree_of(top):
    """Relative path -> bytes of all files."""
    return {str(path.relative_to(top)): path.stat().st_size
            for path in sorted(top.rglob("*")) if path.is_file()}


def names_of(top):
    """All names and sizes below, but for the random names of temporary files."""
    return sorted([str(path.relative_to(top)), path.stat().st_size if path.is_file() else None]
                  for path in pathlib.Path(top).rglob("*"))


def fingerprint(top):
    """Everything about a tree that must not change: bytes, times, modes."""
    whole = hashlib.sha256()
    for path in sorted(top.rglob("*")):
        state = path.lstat()
        times = (state.st_mtime_ns, state.st_ctime_ns)
        whole.update(repr((str(path.relative_to(top)), state.st_mode, state.st_size, times)).encode())
        if path.is_file():
            whole.update(bytes.fromhex(ollama_store.sha256_of(path)))
    return whole.hexdigest()


def age_blobs(root, seeded):
    """Leave a stray file that the clean-up must take, being older than its grace."""
    stray = pathlib.Path(root) / "blobs" / ("sha256-" + "0" * 64 + "-partial")
    stray.write_bytes(b"left over")
    old = time.time() - 2 * ollama_store.GRACE_S
    os.utime(stray, (old, old))
    if not seeded:
        orphan = stray.with_name("sha256-" + "1" * 64)
        orphan.write_bytes(b"nobody's")
        os.utime(orphan, (old, old))


def parse_args():
    ap = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--venv", type=pathlib.Path, required=True, help="what setup.py was given")
    ap.add_argument("--home", type=pathlib.Path, required=True, help="a directory below the mount")
    ap.add_argument("--mount", type=pathlib.Path, required=True)
    ap.add_argument("--cold", type=pathlib.Path, help="a cold home of the same mount, to be seeded")
    ap.add_argument("--promote-cmd", help="template; returns when the model is resident")
    ap.add_argument("--demote-cmd", help="template")
    ap.add_argument("--rescan-cmd", help="template; makes the mount see what changed behind its back")
    ap.add_argument("--loaders", help="comma-separated; default all that are installed")
    ap.add_argument("--models", default=",".join(MODELS), help="comma-separated; default all")
    ap.add_argument("--no-ollama", action="store_true", help="skip the replay of Ollama's store")
    ap.add_argument("--timeout-s", type=int, default=300, help="for each process, default 300")
    ap.add_argument("--json", type=pathlib.Path, help="write all results there")
    args = ap.parse_args()
    if bool(args.promote_cmd) != bool(args.demote_cmd):
        ap.error("--promote-cmd and --demote-cmd go together")
    unknown = set(args.models.split(",")) - set(MODELS)
    if unknown:
        ap.error(f"no model {' '.join(sorted(unknown))}; there are {' '.join(MODELS)}")
    # An interpreter of an environment must be called by its own name, with links kept.
    args.venv = pathlib.Path(os.path.abspath(args.venv))
    for directory in filter(None, (args.home, args.mount, args.cold)):
        if not directory.is_dir():
            ap.error(f"{directory} is no directory")
        if (directory / TOP).exists():
            ap.error(f"{directory / TOP} exists; remove it, or name another directory")
    return args


def main():
    args = parse_args()
    run = Run(args)
    # An end from outside must not leave models behind.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        with run.guarded("set-up", "home"):
            run.find_loaders()
            run.make_models()
            for name in args.models.split(","):
                run.compare_model(name)
            if not args.no_ollama:
                with run.guarded("ollama", "mount"):
                    run.compare_store()
                if args.cold:
                    with run.guarded("ollama, partly cold", "mount"):
                        run.compare_store(args.cold.absolute())
    finally:
        run.clean_up()
    if args.json:
        report = {"results": run.results, "faults": run.faults}
        args.json.write_text(json.dumps(report, indent=1) + "\n")
    compared = len(run.results)
    for fault in run.faults:
        print(f"FAULT: {fault[:2000]}", file=sys.stderr)
    print(f"{compared} comparisons, {len(run.faults)} faults")
    sys.exit(1 if run.faults or not compared else 0)


if __name__ == "__main__":
    main()
