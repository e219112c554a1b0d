"""Every law of the client is tried on both of them."""

import pytest
from client.clientworld import Either, TestTime


@pytest.fixture(params=["blocking", "asynchronous"])
def either(request: pytest.FixtureRequest) -> Either:
    return Either(request.param)


@pytest.fixture
def time_of_test() -> TestTime:
    return TestTime()
