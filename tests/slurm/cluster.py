"""A real SLURM of two nodes on this machine, for tests; ``python tests/slurm/cluster.py up|down FOLDER`` by hand.

Needs root and Debian's packages slurmctld, slurmd, slurm-client and munge. All state, keys, sockets and logs lie in the
folder; outside it are only the links in /etc/slurm (the programs look nowhere else once a job drops ``SLURM_CONF``),
and they are refused where a configuration is there already: such a machine belongs to a cluster.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

PROGRAMS = ("munged", "munge", "slurmctld", "slurmd", "sbatch", "squeue", "scancel", "scontrol", "sinfo", "srun")
NODES = ("n1", "n2")
TEMPLATE = Path(__file__).with_name("slurm.conf.in")
SYSTEM = Path("/etc/slurm")
PATHS = os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/sbin"))


def missing() -> str | None:
    """Why there can be no SLURM here, or None."""
    if os.geteuid() != 0:
        return "needs root"
    absent = [name for name in PROGRAMS if shutil.which(name, path=PATHS) is None]
    if absent:
        return f"needs {', '.join(absent)}: apt-get install slurmctld slurmd slurm-client munge"
    if (SYSTEM / "slurm.conf").exists():
        return (
            f"{SYSTEM}/slurm.conf is there already: this machine belongs to a cluster, or `cluster.py down` was not run"
        )
    return None


def wait_for(condition: Callable[[], object], seconds: float, what: str) -> None:
    """Wait until `condition` holds."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"after {seconds} s still waiting for {what}")
        time.sleep(0.2)


def _alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


@dataclass
class Cluster:
    """The daemons whose state lies in `folder`."""

    folder: Path

    def call(self, *command: str, check: bool = True) -> str:
        """Output of one of SLURM's commands; without their daemon they would retry for a long time."""
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=30, check=False, env={**os.environ, "PATH": PATHS}
        )
        if check and done.returncode:
            raise RuntimeError(f"{' '.join(command)}: {done.stdout}{done.stderr}")
        return done.stdout

    def up(self) -> None:
        """Start everything, and wait until both nodes are idle."""
        key = self._configure()
        munge = key.parent
        owner = ["setpriv", "--reuid=munge", "--regid=munge", "--clear-groups"]
        options = {"key-file": key, "socket": munge / "socket", "pid-file": munge / "pid", "log-file": munge / "log",
                   "seed-file": munge / "seed"}  # fmt: skip
        self.call(*owner, "munged", *(f"--{name}={value}" for name, value in options.items()))
        self.start_controller()
        for node in NODES:
            (self.folder / node).mkdir(exist_ok=True)
            self.call("slurmd", "-N", node)
        wait_for(
            lambda: set(self.call("sinfo", "-h", "-N", "-o", "%T", check=False).split()) == {"idle"}, 30, "idle nodes"
        )

    def _configure(self) -> Path:
        munge = self.folder / "munge"
        munge.mkdir(parents=True, exist_ok=True)
        (self.folder / "controller").mkdir(exist_ok=True)
        self.folder.chmod(0o755)
        key = munge / "key"
        key.write_bytes(os.urandom(1024))
        for path in (munge, key):
            shutil.chown(path, "munge", "munge")
        key.chmod(0o600)
        host = socket.gethostname().split(".")[0]
        contents = {
            "slurm.conf": TEMPLATE.read_text().format(root=self.folder, host=host),
            "gres.conf": "AutoDetect=off\nNodeName=n1 Name=gpu File=/dev/null\n",  # a file that can be counted
            "cgroup.conf": "CgroupAutomount=no\n",
        }
        for name, content in contents.items():
            (self.folder / name).write_text(content)
            (SYSTEM / name).unlink(missing_ok=True)
            (SYSTEM / name).symlink_to(self.folder / name)
        return key

    def start_controller(self) -> None:
        """Start the controller, or start it again from the state that it saved."""
        self.call("slurmctld")

    def save_state(self, job: str) -> None:
        """Make the controller save what it knows of a job now: it does so some time after a change."""
        saved, now = self.folder / "controller/job_state", time.time()
        self.call("scontrol", "update", f"JobId={job}", "AdminComment=save")
        wait_for(lambda: saved.exists() and saved.stat().st_mtime > now, 30, "the controller to save its state")

    def kill_controller(self) -> None:
        """Kill -9."""
        pid = int((self.folder / "slurmctld.pid").read_text())
        os.kill(pid, signal.SIGKILL)
        wait_for(lambda: not _alive(pid), 10, "the controller's end")

    def down(self) -> None:
        """Cancel all jobs, end the daemons by their pid files, remove the links."""
        self.call("scancel", "--full", "--user=root", check=False)
        end = time.monotonic() + 20
        while self.call("squeue", "-h", "-t", "R,CG", check=False).strip() and time.monotonic() < end:
            time.sleep(0.5)
        files = [*self.folder.glob("slurm*.pid"), self.folder / "munge/pid"]
        pids = [int(file.read_text()) for file in files if file.is_file()]
        for number in (signal.SIGTERM, signal.SIGKILL):  # a slurmd that lost its controller ignores TERM
            for pid in filter(_alive, pids):
                os.kill(pid, number)
            end = time.monotonic() + 10
            while any(map(_alive, pids)) and time.monotonic() < end:
                time.sleep(0.2)
        for name in ("slurm.conf", "gres.conf", "cgroup.conf"):
            link = SYSTEM / name
            if link.is_symlink() and link.readlink() == self.folder / name:
                link.unlink()

    def jobs(self, *states: str) -> dict[str, str]:
        """Comment (``rule_<name>_wildcards_...``) of each job in one of the states, by job id."""
        lines = self.call("squeue", "-h", "-t", ",".join(states or ("R",)), "-o", "%i %k").splitlines()
        return dict(line.split(" ", 1) for line in lines)


if __name__ == "__main__":
    action, folder = sys.argv[1:]
    cluster = Cluster(Path(folder).resolve())
    if action == "up":
        if (reason := missing()) is not None:
            sys.exit(f"no SLURM here: {reason}")
        cluster.up()
    else:
        cluster.down()
