from __future__ import annotations

import pytest

from evolink_mcp.groups import open_group


async def test_several_errors_stay_a_group() -> None:
    async def fail() -> None:
        raise LookupError

    async def fail_twice() -> None:
        async with open_group() as group:
            group.start_soon(fail)
            group.start_soon(fail)

    with pytest.raises(ExceptionGroup) as raised:
        await fail_twice()
    assert [type(error) for error in raised.value.exceptions] == [LookupError, LookupError]
