"""Addresses of servers."""

from mono3d.services.address import Address


def test_url_leads_to_the_server_also_when_it_listens_everywhere() -> None:
    assert Address(host="192.0.2.1", port=5000).url == "http://192.0.2.1:5000"
    assert Address(host="0.0.0.0", port=5000).url == "http://127.0.0.1:5000"
