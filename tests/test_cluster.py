"""A real Ray cluster of four machines and a real S3 server: whatever is killed, the result is the same."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from attacks.kills import content, difference

from collectiverl.artifacts import sealed
from collectiverl.artifacts.store import Store
from collectiverl.pipeline.executors import worker
from collectiverl.pipeline.executors.ray import RayCluster
from collectiverl.types import UserError

ray = pytest.importorskip("ray", reason="pip install 'collectiverl[ray]'")
cluster_utils = pytest.importorskip("ray.cluster_utils", reason="pip install 'collectiverl[ray]'")
psutil = pytest.importorskip("psutil", reason="pip install psutil")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings(
        "ignore::ResourceWarning", "ignore::DeprecationWarning", "ignore::FutureWarning"
    ),
]
ROOT = Path(__file__).parents[1]
NODES = 4
AT_WORK = "ray::_perform"
LONG = 600.0  # seconds


@pytest.fixture(scope="module")
def bucket():
    """A server of S3, whose address all processes that are started from now on have; None: it is not installed."""
    try:
        import boto3
        import s3fs  # noqa: F401
        from moto.server import ThreadedMotoServer
    except ImportError:
        yield None
        return
    server = ThreadedMotoServer(port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    access = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1"}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {**access, "AWS_ENDPOINT_URL": f"http://{host}:{port}"}.items():
            patch.setenv(name, value)
        boto3.client("s3").create_bucket(Bucket="runs")
        yield "s3://runs"
    server.stop()


@pytest.fixture(scope="module")
def machines(bucket):
    """A head that does no stages, and four machines of one core, all of them this one.

    Ray gives its workers a niceness of 15, with which they would wait for whatever else runs here.
    """
    os.environ["RAY_worker_niceness"] = "0"  # noqa: SIM112
    cluster = cluster_utils.Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    nodes = [cluster.add_node(num_cpus=1, object_store_memory=80_000_000) for _ in range(NODES)]
    cluster.wait_for_nodes()
    yield cluster, nodes
    cluster.shutdown()


@pytest.fixture(params=["file", "s3"])
def url(request, tmp_path, bucket):
    """An empty store."""
    if request.param == "file":
        return f"file://{tmp_path / 'store'}"
    if bucket is None:
        pytest.skip("s3fs and moto are not installed: make test-machines")
    return f"{bucket}/{tmp_path.name}"


class Driver:
    """A run on the cluster, or here."""

    def __init__(self, run: Path, *where: str):
        self.log = run.with_suffix(".log")
        line = [sys.executable, ROOT / "tests/ray_driver.py", run, *where]
        here = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT), *sys.path])}
        self.process = subprocess.Popen(
            list(map(str, line)), stdout=self.log.open("w"), stderr=subprocess.STDOUT, env=here
        )

    def done(self) -> list[str]:
        """Folders of the stages that have ended."""
        lines = [line.split() for line in self.log.read_text().splitlines()]
        return [words[0] for words in lines if words[1:] == ["1", "0"]]

    def until(self, count: int) -> None:
        """Waits until so many stages have ended."""
        began = time.monotonic()
        while len(self.done()) < count:
            assert self.process.poll() is None, self.log.read_text()[-3000:]
            assert time.monotonic() - began < LONG, self.log.read_text()[-3000:]
            time.sleep(0.1)

    def end(self) -> None:
        assert self.process.wait(LONG) == 0, self.log.read_text()[-3000:]

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """The content of the run in processes here."""
    run = tmp_path_factory.mktemp("undisturbed") / "run"
    Driver(run).end()
    return content(run)


def kill_a_worker(driver: Driver) -> None:
    """One that is doing a stage, once there is one."""
    began = time.monotonic()
    while time.monotonic() - began < LONG:
        assert driver.process.poll() is None, driver.log.read_text()[-3000:]
        for process in psutil.Process().children(recursive=True):
            with contextlib.suppress(psutil.Error):
                if process.cmdline()[:1] == [AT_WORK]:
                    time.sleep(1.0)
                    process.send_signal(signal.SIGKILL)
                    return
        time.sleep(0.1)
    raise AssertionError("no worker was at work")


def test_a_worker_a_machine_and_the_driver_are_killed_and_the_result_is_the_same(
    tmp_path, machines, url, undisturbed
):
    cluster, nodes = machines
    first = Driver(tmp_path / "run", cluster.address, url)
    kill_a_worker(first)
    first.until(1)
    cluster.remove_node(nodes.pop(), allow_graceful=False)
    nodes.append(cluster.add_node(num_cpus=1, object_store_memory=80_000_000))
    first.until(2)
    first.kill()
    (tmp_path / "elsewhere").mkdir()
    second = Driver(tmp_path / "elsewhere" / "run", cluster.address, url)
    second.end()
    assert difference(content(tmp_path / "elsewhere" / "run"), undisturbed) is None
    assert first.done()
    assert not set(first.done()) & set(second.done())  # nothing is done twice


def test_the_store_of_a_bucket_lets_the_first_manifest_win(tmp_path, url):
    store = Store(url)
    for name in ("first", "second"):
        with sealed.stage(tmp_path / name, name="train", config={}, inputs={}) as folder:
            (folder / "agent").write_text(name)
    assert store.put(tmp_path / "first", "model")
    assert not store._create(store._manifest("model"), b"{}")
    assert not store.put(tmp_path / "second", "model")
    store.get("model", tmp_path / "second")
    assert (tmp_path / "second/agent").read_text() == "first"


def test_machines_of_another_version_are_refused(machines, monkeypatch):
    monkeypatch.setattr(worker, "source", lambda: "0.1.0 (abc)")
    with pytest.raises(UserError, match=r"the machine .* has collectiverl 0\.1\.0 .abc., and"):
        RayCluster(machines[0].address)
    assert not ray.is_initialized()


def test_a_cluster_that_is_not_there_is_the_users_to_mend():
    with pytest.raises(UserError, match=r"there is no Ray cluster at '127\.0\.0\.1:1'"):
        RayCluster("127.0.0.1:1")
