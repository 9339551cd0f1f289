"""What all stores of these tests have: servers and clients that are processes of ours, and mounts."""
import os
import pathlib
import signal
import socket
import subprocess
import time

# Longest wait for anything that has no reason to hang, in seconds.
PATIENCE_S = 60


def await_that(what, holds):
    """Returns when `holds()` is true; that it never is is an error."""
    end = time.monotonic() + PATIENCE_S
    while not holds():
        if time.monotonic() > end:
            raise TimeoutError(f"{what}: not within {PATIENCE_S} s")
        time.sleep(0.05)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def listens(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def mounted():
    """Mount points of this process, the latest first."""
    with open("/proc/self/mountinfo", encoding="utf-8") as table:
        return [line.split()[4] for line in table][::-1]


def begin(*argv):
    """A process of its own session: no signal of the terminal ends it before we do."""
    return subprocess.Popen(
        argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        start_new_session=True)


class Processes:
    """Servers by number, clients by the directory where they are mounted."""

    def __init__(self, site):
        self.site = pathlib.Path(site)
        self.servers, self.clients = {}, {}
        self.site.mkdir(parents=True)

    def kill(self, *numbers):
        for number in numbers or list(self.servers):
            self.servers[number].kill()
            self.servers.pop(number).wait()

    def stop(self):
        self.signal(signal.SIGSTOP)

    def go_on(self):
        self.signal(signal.SIGCONT)

    def signal(self, what):
        for server in self.servers.values():
            server.send_signal(what)

    def kill_client(self, where):
        """Its mount stays, with nobody behind."""
        client = self.clients.pop(pathlib.Path(where))
        client.kill()
        client.wait()

    @staticmethod
    def unmount(where):
        subprocess.run(["umount", "-l", where], check=True)

    def end(self):
        """Whatever state it is in; nothing of ours stays."""
        processes = [*self.clients.values(), *self.servers.values()]
        for process in processes:
            process.kill()
        for process in processes:
            process.wait()
        self.clients, self.servers = {}, {}
        for where in mounted():
            if where.startswith(f"{self.site.parent}{os.sep}"):
                # Those of our daemon end with it.
                subprocess.run(["umount", "-l", where], check=False, stderr=subprocess.DEVNULL)
