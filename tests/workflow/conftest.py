"""A Slurm of two virtual nodes on this machine, for tests of runs on a cluster."""

import contextlib
import getpass
import os
import secrets
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest

MUNGE_FILES = ("key", "socket", "pid", "log", "seed")
DAEMONS = ("munged", "slurmctld", "slurmd")
SBIN = os.pathsep.join([os.environ["PATH"], "/usr/local/sbin", "/usr/sbin"])  # not on the path of every user
CONFIGURATION = """\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
StateSaveLocation={folder}/state
SlurmctldPidFile={folder}/slurmctld.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdSpoolDir={folder}/spool-%n
SlurmdPidFile={folder}/%n.pid
SlurmdLogFile={folder}/%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU,CR_LLN
SchedulerParameters=sched_interval=5,bf_interval=5,batch_sched_delay=0,sched_min_interval=0
ReturnToService=2
MpiDefault=none
SlurmdParameters=config_overrides
NodeName=n1 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[1]} CPUs=2 RealMemory=16000
NodeName=n2 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[2]} CPUs=2 RealMemory=16000
PartitionName=main Nodes=n[1-2] Default=YES MaxTime=INFINITE DefMemPerCPU=100
"""


@dataclass
class Slurm:
    """The daemons of a cluster, and how to call it."""

    folder: Path
    processes: dict[str, subprocess.Popen] = field(default_factory=dict)  # by name, nodes by theirs

    @property
    def environment(self) -> dict[str, str]:
        """What a program needs in its environment to find this cluster, and no other."""
        path = os.pathsep.join([str(self.folder / "bin"), SBIN])
        return {"SLURM_CONF": str(self.folder / "slurm.conf"), "PATH": path}

    def start(self) -> None:
        for name in ("state", "bin"):
            (self.folder / name).mkdir()
        (self.folder / "munge.key").write_bytes(secrets.token_bytes(128))
        (self.folder / "munge.key").chmod(0o400)
        with socket.socket() as a, socket.socket() as b, socket.socket() as c:
            for each in (a, b, c):
                each.bind(("127.0.0.1", 0))
            ports = [each.getsockname()[1] for each in (a, b, c)]
        host = socket.gethostname().partition(".")[0]
        text = CONFIGURATION.format(folder=self.folder, host=host, user=getpass.getuser(), ports=ports)
        (self.folder / "slurm.conf").write_text(text)
        # within a job, the plugin of Snakemake takes SLURM_CONF away, which a site's own installation does not need
        srun = self.folder / "bin" / "srun"
        srun.write_text(f'#!/bin/sh\nSLURM_CONF={self.folder}/slurm.conf exec {shutil.which("srun", path=SBIN)} "$@"\n')
        srun.chmod(0o755)
        files = [f"--{end if end == 'socket' else f'{end}-file'}={self.folder}/munge.{end}" for end in MUNGE_FILES]
        self._start("munged", "munged", "--foreground", "--force", *files)
        self.wait_for(lambda: (self.folder / "munge.socket").exists(), "munged")
        self._start("slurmctld", "slurmctld", "-D")
        for node in ("n1", "n2"):
            self.start_node(node)

    def start_node(self, node: str) -> None:
        """Start a node, and wait until it takes jobs."""
        self._start(node, "slurmd", "-D", "-N", node)
        self.wait_for(lambda: self.call("sinfo", "-h", "-n", node, "-o", "%t").strip() in ("idle", "mix"), node)

    def kill_node(self, node: str) -> None:
        """End a node with all of its jobs, as a power failure does, and let the cluster know at once."""
        self.processes[node].kill()
        self.processes.pop(node).wait()
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                told = process.environ()
                if told.get("SLURMD_NODENAME") == node and str(self.folder) in told.get("PATH", ""):
                    steps = [each for each in process.parents() if each.name().startswith("slurmstepd")]
                    for each in (*steps, process):
                        each.kill()
        self.call("scontrol", "update", f"nodename={node}", "state=down", "reason=killed")
        # Slurm waits two minutes before it starts again what it has taken back
        self.wait_for(lambda: "PENDING" in self.call("squeue", "-h", "-o", "%T"), "a job to be taken back")
        for job in self.call("squeue", "-h", "-t", "PD", "-o", "%A").split():
            self.call("scontrol", "update", f"jobid={job}", "starttime=now")

    def call(self, *command: str) -> str:
        done = subprocess.run(command, env=os.environ | self.environment, capture_output=True, text=True, check=False)
        return done.stdout

    def stop(self) -> None:
        self.call("scancel", f"--user={getpass.getuser()}")
        for process in reversed(self.processes.values()):
            process.terminate()
            try:
                process.wait(timeout=30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def wait_for(self, condition: Callable[[], bool], what: str, limit_s: float = 60.0) -> None:
        end_s = time.monotonic() + limit_s
        while not condition():
            assert time.monotonic() < end_s, f"waited {limit_s} s for {what}; logs: {self.folder}"
            time.sleep(0.1)

    def _start(self, name: str, program: str, *options: str) -> None:
        command = [shutil.which(program, path=SBIN) or program, *options]
        with (self.folder / f"{name}.out").open("w") as out:
            self.processes[name] = subprocess.Popen(
                command, env=os.environ | self.environment, stdout=out, stderr=subprocess.STDOUT
            )


@pytest.fixture(scope="session")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slurm]:
    missing = [name for name in DAEMONS if shutil.which(name, path=SBIN) is None]
    if missing:
        pytest.skip(f"no Slurm here ({', '.join(missing)}); on Debian: apt-get install slurm-wlm munge")
    cluster = Slurm(tmp_path_factory.mktemp("slurm"))
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()
