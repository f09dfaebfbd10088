"""An op picks the latest provider that supports the call, unless it is told which, or a provider waits to be asked."""

from __future__ import annotations

import pytest

from rerank import registry
from rerank.errors import UnknownName
from rerank.kernels.op import Op


def double(number: int) -> int:
    """Twice a number."""
    return 2 * number


@pytest.fixture
def op() -> Op:
    made = Op(double)
    made.add("even", lambda number: number << 1, lambda number: number % 2 == 0)
    made.add("waiting", lambda number: number + number, lambda number: True, when_asked=True)
    return made


def test_the_latest_provider_that_supports_a_call_is_picked(op):
    assert [op.pick(number).name for number in (1, 2)] == ["reference", "even"]
    assert [op(number) for number in (1, 2)] == [2, 4]


def test_a_provider_is_used_within_using_and_only_there(op):
    with op.using("waiting"):
        assert op.pick(2).name == "waiting"
        assert op(3) == 6

    assert op.pick(2).name == "even"
    with pytest.raises(UnknownName, match="did you mean 'waiting'"), op.using("waitin"):
        pass


def test_every_registered_kernel_is_an_op_with_a_reference_under_its_own_name():
    for name in registry.names("kernel"):
        op = registry.load("kernel", name)
        assert (op.name, next(iter(op.providers))) == (name, "reference")
        assert op.__doc__
