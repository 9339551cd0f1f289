"""A GlusterFS volume of two replicated bricks, all of it below one directory and on loopback.

Bricks and clients are the real programs, given their volume files by hand: the management daemon
would write below /var/lib/glusterd and want a name of this machine that is not loopback.
"""
import os
import pathlib
import signal
import socket
import subprocess
import time

BRICK = """\
volume posix
    type storage/posix
    option directory {directory}
    option ctime on
end-volume
volume locks
    type features/locks
    subvolumes posix
end-volume
volume index
    type features/index
    option index-base {directory}/.glusterfs/indices
    option xattrop-pending-watchlist trusted.afr.
    subvolumes locks
end-volume
volume brick
    type performance/io-threads
    subvolumes index
end-volume
volume server
    type protocol/server
    option transport-type socket
    option transport.address-family inet
    option transport.socket.bind-address 127.0.0.1
    option transport.socket.listen-port {port}
    option auth.addr.brick.allow 127.0.0.1
    subvolumes brick
end-volume
"""
CONNECTION = """\
volume client-{number}
    type protocol/client
    option transport-type socket
    option transport.address-family inet
    option remote-host 127.0.0.1
    option remote-port {port}
    option remote-subvolume brick
    option ping-timeout 42
end-volume
"""
# As `gluster volume create ... replica 2` writes it, caches included. Without `utime` (features.ctime)
# each brick has times of its own, and a file has changed when the other brick answers.
CLIENT = """\
volume replicate
    type cluster/replicate
    option afr-pending-xattr client-1,client-2
    subvolumes client-1 client-2
end-volume
volume distribute
    type cluster/distribute
    subvolumes replicate
end-volume
volume utime
    type features/utime
    subvolumes distribute
end-volume
volume read-ahead
    type performance/read-ahead
    subvolumes utime
end-volume
volume open-behind
    type performance/open-behind
    subvolumes read-ahead
end-volume
volume md-cache
    type performance/md-cache
    subvolumes open-behind
end-volume
"""
BRICKS = (1, 2)
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


class Store:
    NAME = "GlusterFS"

    def __init__(self, site):
        self.site = pathlib.Path(site)
        self.ports = {number: free_port() for number in BRICKS}
        self.bricks, self.clients = {}, {}
        self.site.mkdir(parents=True)
        for number in BRICKS:
            # The index wants the directory above its own to be there before the brick makes it.
            (self.site / f"brick-{number}/.glusterfs").mkdir(mode=0o700, parents=True)
            text = BRICK.format(directory=self.site / f"brick-{number}", port=self.ports[number])
            (self.site / f"brick-{number}.vol").write_text(text)
        connections = (CONNECTION.format(number=n, port=self.ports[n]) for n in BRICKS)
        (self.site / "client.vol").write_text("".join(connections) + CLIENT)

    # --- bricks ---------------------------------------------------------------------------------

    def start(self, *numbers):
        for number in numbers or BRICKS:
            self.bricks[number] = subprocess.Popen(
                ["glusterfsd", "-N", "-f", self.site / f"brick-{number}.vol",
                 "-l", self.site / f"brick-{number}.log"],
                stdin=subprocess.DEVNULL, start_new_session=True)
        for number in numbers or BRICKS:
            await_that(f"brick {number}", lambda n=number: listens(self.ports[n]))

    def kill(self, *numbers):
        for number in numbers or BRICKS:
            self.bricks[number].kill()
            self.bricks.pop(number).wait()

    def signal(self, what):
        for brick in self.bricks.values():
            brick.send_signal(what)

    def stop(self):
        self.signal(signal.SIGSTOP)

    def go_on(self):
        self.signal(signal.SIGCONT)

    # --- clients --------------------------------------------------------------------------------

    def mount(self, where, read_only):
        where = pathlib.Path(where)
        where.mkdir(exist_ok=True)
        self.clients[where] = subprocess.Popen(
            ["glusterfs", "-N", *(["--read-only"] if read_only else []), "-f", self.site / "client.vol",
             "-l", self.site / f"client-{where.name}.log", where],
            stdin=subprocess.DEVNULL, start_new_session=True)
        await_that(f"the mount {where}", lambda: str(where) in mounted())
        await_that(f"its connections, {where}", lambda: self.connected(where))

    def connected(self, where):
        """Whether the client has both bricks: it says so on its first and on each later connection."""
        log = (self.site / f"client-{where.name}.log").read_text(errors="replace")
        return all(
            log.rfind(f"-client-{n}: Connected") > log.rfind(f"-client-{n}: disconnected")
            for n in BRICKS)

    def await_connections(self):
        for where in self.clients:
            await_that(f"the connections of {where}", lambda w=where: self.connected(w))

    def kill_client(self, where):
        """Its mount stays, with nobody behind."""
        client = self.clients.pop(pathlib.Path(where))
        client.kill()
        client.wait()

    def unmount(self, where):
        subprocess.run(["umount", "-l", where], check=True)

    # --- the end --------------------------------------------------------------------------------

    def end(self):
        """Whatever state it is in; nothing of ours stays."""
        for client in self.clients.values():
            client.kill()
        for brick in self.bricks.values():
            brick.kill()
        for process in [*self.clients.values(), *self.bricks.values()]:
            process.wait()
        self.clients, self.bricks = {}, {}
        for where in mounted():
            if where.startswith(f"{self.site.parent}{os.sep}"):
                # Those of our daemon end with it.
                subprocess.run(["umount", "-l", where], check=False, stderr=subprocess.DEVNULL)
