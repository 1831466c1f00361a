"""Free ports: free, together, and out of Ray's way."""

import socket

import pytest

from mono3d.errors import ServiceError
from mono3d.services.ports import GRPC_OFFSET, free_block, is_free

LOOPBACK = "127.0.0.1"
RAY_WORKER_PORTS = range(10_002, 20_000)
LINUX_EPHEMERAL_PORTS = range(32_768, 61_000)


def test_block_and_its_grpc_ports_avoid_ray_and_the_kernel() -> None:
    for _ in range(20):
        first = free_block(4, offsets=(0, GRPC_OFFSET), host=LOOPBACK)
        for port in (first, first + 3, first + GRPC_OFFSET, first + 3 + GRPC_OFFSET):
            assert port not in RAY_WORKER_PORTS
            assert port not in LINUX_EPHEMERAL_PORTS


def test_preferred_block_is_taken_if_it_is_free() -> None:
    first = free_block(2, host=LOOPBACK)
    assert free_block(2, preferred=first, host=LOOPBACK) == first


@pytest.mark.parametrize("taken", [0, 1, 0 + GRPC_OFFSET, 1 + GRPC_OFFSET])
def test_block_with_a_taken_port_is_passed_over(taken: int) -> None:
    first = free_block(2, offsets=(0, GRPC_OFFSET), host=LOOPBACK)
    with socket.create_server((LOOPBACK, first + taken)):
        assert not is_free(first + taken, LOOPBACK)
        found = free_block(2, offsets=(0, GRPC_OFFSET), preferred=first, host=LOOPBACK)
    assert found != first


def test_address_that_is_not_ours_has_no_free_ports() -> None:
    with pytest.raises(ServiceError, match="no 1 free ports"):
        free_block(1, host="192.0.2.1")  # reserved for documentation (RFC 5737)
