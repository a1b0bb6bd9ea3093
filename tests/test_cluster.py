"""A night on a dask scheduler of somebody else's: certificates, other machines, one that dies."""

from __future__ import annotations

import datetime as dt
import functools
import ipaddress
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path

import dask
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from risk import pipeline
from risk.config import load_config
from risk.errors import ConfigError, RunError
from tests.test_kills import config_of, finished, sample
from tests.test_pipeline import assert_same

__all__ = ["finished", "sample"]

pytestmark = pytest.mark.drill

ROOT = Path(__file__).resolve().parents[1]
DASK = str(Path(sys.executable).with_name("dask"))


def wait_for(found, process=None):
    """Wait for what `found` finds; a process that ends before is a failure."""
    while not (answer := found()):
        assert process is None or process.poll() is None, "it ended"
        time.sleep(0.05)
    return answer


class Authority:
    """Who signs certificates; with files of one that it signed."""

    def __init__(self, folder):
        folder.mkdir()
        self.files = {name: folder / f"{name}.pem" for name in ("ca", "cert", "key")}
        root, leaf = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, folder.name)])
        self._write("ca", self._certificate(root, root, is_authority=True))
        self._write("cert", self._certificate(leaf, root, is_authority=False))
        self.files["key"].write_bytes(
            leaf.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )

    def _certificate(self, key, signer, *, is_authority):
        now = dt.datetime.now(dt.UTC)
        name = self._name
        if not is_authority:
            name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a worker")])
        return (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(days=1))
            .not_valid_after(now + dt.timedelta(days=1))
            .add_extension(x509.BasicConstraints(is_authority, None), critical=True)
            .add_extension(
                x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]),
                critical=False,
            )
            .sign(signer, hashes.SHA256())
        )

    def _write(self, name, certificate):
        self.files[name].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))

    @property
    def options(self):
        """As dask's commands take them."""
        flags = {"ca": "--tls-ca-file", "cert": "--tls-cert", "key": "--tls-key"}
        return [word for name, flag in flags.items() for word in (flag, str(self.files[name]))]

    @property
    def tls(self):
        """As a config takes them."""
        return {name: str(file) for name, file in self.files.items()}


class Cluster:
    """A scheduler and workers, each a process started by dask's own commands."""

    def __init__(self, folder, authority, stack, **environment):
        self.folder, self.authority, self._stack = folder, authority, stack
        known = folder / "scheduler.json"
        scheduler = self._start(
            [DASK, "scheduler", "--protocol", "tls", "--host", "0.0.0.0", "--port", "0",
             "--no-dashboard", "--scheduler-file", str(known), *authority.options],
            "scheduler", **environment,
        )  # fmt: skip
        wait_for(known.exists, scheduler)
        wait_for(known.read_text, scheduler)
        self.port = json.loads(known.read_text())["address"].rpartition(":")[2]
        self.address = f"tls://127.0.0.1:{self.port}"

    def worker(self, name, *, host="127.0.0.1", inside=(), preload=(), **environment):
        """Start a worker that nothing starts again, and wait until the scheduler has it."""
        command = [
            *inside, DASK, "worker", f"tls://{host}:{self.port}", "--nthreads", "1", "--no-nanny",
            "--no-dashboard", "--name", name, "--local-directory", str(self.folder / name),
            *self.authority.options,
        ]  # fmt: skip
        for module in ("risk.worker", *preload):
            command += ["--preload", module]
        process = self._start(command, name, **environment)
        log = self.folder / f"{name}.log"
        wait_for(lambda: "Registered to:" in log.read_text(), process)
        return process

    def _start(self, command, name, **environment):
        with (self.folder / f"{name}.log").open("w") as log:
            process = subprocess.Popen(
                command, cwd=self.folder, stdout=log, stderr=log, start_new_session=True,
                env=os.environ | {"PYTHONPATH": str(ROOT)} | environment,
            )  # fmt: skip
        self._stack.callback(end, process)
        return process


def end(process):
    """Kill a process and its children, if it still runs."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("tls") / "ours")


@pytest.fixture
def cluster(authority, tmp_path):
    folder = tmp_path / "cluster"
    folder.mkdir()
    with ExitStack() as stack:
        yield Cluster(folder, authority, stack)


def run_and_kill(config, worker):
    """Run a night; kill a worker in the middle of the blocks; give the run."""
    out = config.out

    def done():
        return len(list(out.glob("as_of=*/.run=*.part/blocks/*.json")))

    def kill():
        while done() < 5:
            time.sleep(0.002)
        os.killpg(worker.pid, signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    seen = []
    run = pipeline.run(config, progress=lambda *step: seen.append((*step, worker.poll())))
    killer.join()
    assert worker.wait() == -signal.SIGKILL
    after = {done for stage, done, total, status in seen if stage == "simulate" and status}
    assert len(after) > 5, "blocks were done after it died"
    return run


def test_a_night_on_a_scheduler_with_certificates_outlives_one_of_two_workers(
    sample, finished, cluster, authority, tmp_path
):
    dies, _ = cluster.worker("dies"), cluster.worker("stays")
    config = config_of(tmp_path, sample, address=cluster.address, tls=authority.tls)
    assert_same(finished, run_and_kill(load_config(config), dies))


@functools.cache
def may_separate():
    """Whether this process may make namespaces and mount in them: one try."""
    if os.getuid() != 0 or not (shutil.which("ip") and shutil.which("unshare")):
        return False
    name = f"bulkhead-{os.getpid()}-try"
    attempt = f"ip netns add {name} && ip netns del {name} && unshare -m mount -t tmpfs none /mnt"
    return subprocess.run(["sh", "-c", attempt], capture_output=True, check=False).returncode == 0


@contextmanager
def namespaces(n, hidden):
    """Network namespaces with one link each to this one, in which `hidden` is an empty folder.

    Gives (words before a command, address of this machine, name of the link here) for each.
    """
    if not may_separate():
        pytest.skip("needs root, ip, unshare and the right to make namespaces")
    with ExitStack() as stack:
        made = []
        for i in range(n):
            name, link = f"bulkhead-{os.getpid()}-{i}", f"bh{os.getpid() % 100_000}{i}"
            net = f"10.213.{(os.getpid() * n + i) % 250}"
            inside = ["ip", "netns", "exec", name]
            steps = [
                ["ip", "netns", "add", name],
                ["ip", "link", "add", link, "type", "veth", "peer", "name", "up0", "netns", name],
                ["ip", "addr", "add", f"{net}.1/24", "dev", link],
                ["ip", "link", "set", link, "up"],
                [*inside, "ip", "addr", "add", f"{net}.2/24", "dev", "up0"],
                [*inside, "ip", "link", "set", "up0", "up"],
                [*inside, "ip", "link", "set", "lo", "up"],
                [*inside, "unshare", "-m", "mount", "-t", "tmpfs", "tmpfs", str(hidden)],
            ]
            stack.callback(subprocess.run, ["ip", "netns", "del", name], capture_output=True)
            for step in steps:
                done = subprocess.run(step, capture_output=True, text=True, check=False)
                if done.returncode:
                    pytest.skip(f"no namespaces here: {' '.join(step)}: {done.stderr.strip()}")
            hide = f"mount -t tmpfs tmpfs '{hidden}' && exec \"$@\""
            made.append(([*inside, "unshare", "-m", "sh", "-c", hide, "sh"], f"{net}.1", link))
        yield made


def carried(link):
    """Bytes that went over a link, both ways."""
    counters = Path(f"/sys/class/net/{link}/statistics")
    return sum(int((counters / name).read_text()) for name in ("rx_bytes", "tx_bytes"))


@pytest.mark.parametrize("apart", ["namespaces", "processes"])
def test_workers_that_cannot_see_the_run_give_the_same_bytes_by_a_shared_address(
    sample, finished, cluster, authority, tmp_path, apart
):
    """Each with a cache of its own; one dies; nothing large goes through the scheduler."""
    out = tmp_path / "runs"
    out.mkdir()
    config = load_config(
        config_of(
            tmp_path, sample, address=cluster.address, tls=authority.tls,
            shared=f"file://{tmp_path}/shared", cache="$BULKHEAD_CACHE/inputs",
        )
    )  # fmt: skip
    with ExitStack() as stack:
        places = [([], "127.0.0.1", "")] * 2
        if apart == "namespaces":
            places = stack.enter_context(namespaces(2, out))
        elif may_separate() and not os.environ.get("BULKHEAD_DRILL_KILLS"):
            pytest.skip("namespaces prove more, and are possible here; `make drill` does both")
        dies, stays = (
            cluster.worker(
                name, host=host, inside=inside, preload=["tests.no_peeking"],
                BULKHEAD_FORBIDDEN=str(out), BULKHEAD_CACHE=str(tmp_path / f"cache of {name}"),
            )
            for name, (inside, host, _) in zip(("dies", "stays"), places, strict=True)
        )  # fmt: skip
        before = carried(places[1][2]) if places[1][2] else None
        run = run_and_kill(config, dies)
        assert stays.poll() is None
        moved = sum(file.stat().st_size for file in run.path.glob("*.zarr/*/*/c/**/*"))
        if before is not None:
            went = carried(places[1][2]) - before
            n_blocks = sum(-(-cube.sizes["scenario"] // 128) for cube in run.cube.children.values())
            print(f"\n{n_blocks} blocks: {went:,} bytes to and from one worker and its scheduler,")
            print(f"{moved:,} bytes of chunks beside them")
            assert went < 20_000 * n_blocks + 500_000, "heartbeats and handshakes included"
    assert_same(finished, run)
    assert list((tmp_path / "shared").iterdir()) == []
    for name in ("dies", "stays"):
        cached = [path.name for path in (tmp_path / f"cache of {name}/inputs").iterdir()]
        assert len([entry for entry in cached if len(entry) == 64]) == 1


def test_a_worker_whose_sources_differ_is_refused_by_its_address_and_both_versions(
    sample, cluster, authority, tmp_path
):
    other = tmp_path / "release"
    shutil.copytree(ROOT / "risk", other / "risk", ignore=shutil.ignore_patterns("__pycache__"))
    with (other / "risk/errors.py").open("a") as file:
        file.write("# Another release.\n")
    cluster.worker("old", PYTHONPATH=str(other))
    config = config_of(tmp_path, sample, address=cluster.address, tls=authority.tls)
    with pytest.raises(RunError, match=r"worker tls://\S+ began with version \w{16} .* \w{16}; "):
        pipeline.run(load_config(config))


def test_a_scheduler_that_gets_no_worker_ends_the_night_when_dask_is_told_so(
    sample, authority, tmp_path
):
    with ExitStack() as stack:
        limit = {"DASK_DISTRIBUTED__SCHEDULER__NO_WORKERS_TIMEOUT": "1s"}
        empty = Cluster(tmp_path, authority, stack, **limit)
        config = config_of(tmp_path, sample, address=empty.address, tls=authority.tls)
        with pytest.raises(RunError, match=r"the dask scheduler has no worker .*; start some"):
            pipeline.run(load_config(config))


def refused(sample, refusing, authority, folder, change):
    """Config of a night that asks for a scheduler in a wrong way."""
    execution = {"address": "tls://127.0.0.1:{port}", "tls": authority.tls} | change
    address = execution.pop("address").format(port=refusing.port)
    return config_of(folder, sample, address=address, **execution)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"tls": None}, "tls needs an address that begins with tls://"),
        ({"address": "tcp://127.0.0.1:{port}"}, "tls needs an address that begins with tls://"),
        ({"address": "tcp://127.0.0.1:{port}", "tls": None}, "no dask scheduler answers"),
        ({"address": "tls://127.0.0.1:9"}, "no dask scheduler answers"),
        ({"tls": dict.fromkeys(("ca", "cert", "key"), "absent")}, "tls.ca is .* does not exist"),
    ],
)
def test_an_address_that_cannot_serve_is_refused_before_the_book_is_read(
    sample, authority, refusing, tmp_path, change, words
):
    config = refused(sample, refusing, authority, tmp_path, change)
    with (
        dask.config.set({"distributed.comm.timeouts.connect": "2s"}),
        pytest.raises(ConfigError, match=words),
    ):
        pipeline.run(load_config(config))
    assert not list(tmp_path.glob("runs/as_of=*/.run=*.part"))


def test_a_client_whose_certificate_another_authority_signed_is_refused_with_status_2(
    sample, authority, refusing, tmp_path
):
    stranger = Authority(tmp_path / "stranger").tls
    config = refused(sample, refusing, authority, tmp_path, {"tls": stranger})
    done = subprocess.run(
        [Path(sys.executable).with_name("bulkhead"), "run", str(config)],
        cwd=ROOT, capture_output=True, text=True, check=False,
        env=os.environ | {"DASK_DISTRIBUTED__COMM__TIMEOUTS__CONNECT": "2s"},
    )  # fmt: skip
    assert done.returncode == 2, done.stderr
    assert "no dask scheduler answers" in done.stderr
    assert "must be signed by execution.tls.ca" in done.stderr
    assert len(done.stderr.splitlines()) == 1, done.stderr


@pytest.fixture(scope="module")
def refusing(authority, tmp_path_factory):
    """A scheduler without workers."""
    with ExitStack() as stack:
        yield Cluster(tmp_path_factory.mktemp("refusing"), authority, stack)
