"""Whatever a record holds, what is sent to a tracking store fits in the columns of its database."""

from __future__ import annotations

import posixpath
import re

from hypothesis import strategies as st

from harness.tracking import limits
from tests.fuzz.generated import generated

ANY = st.text(st.characters(), max_size=600) | st.from_regex(r"[\w./ :\-\[\]]{1,300}", fullmatch=True)


@generated(ANY, ANY)
def test_keys_are_accepted_and_never_shared(one: str, other: str) -> None:
    from mlflow.utils.validation import _validate_metric_name, _validate_param, _validate_tag

    for name in (one, other):
        key = limits.key(name)
        assert re.fullmatch(r"[A-Za-z0-9_. :/-]{1,250}", key)
        _validate_metric_name(key)
        _validate_param(key, "1")
        _validate_tag(key, "1")
        assert posixpath.normpath(key) == key
    assert (limits.key(one) == limits.key(other)) == (one == other)


@generated(st.text(st.characters(), max_size=3000), st.sampled_from([limits.NAME, limits.PARAM, limits.TAG]))
def test_values_are_short_enough_and_can_be_stored(value: str, longest: int) -> None:
    sent = limits.text(value, longest)
    assert len(sent) <= longest
    assert "\0" not in sent
    sent.encode("utf-8")
    if len(value) <= longest and "\0" not in value and value.isprintable():
        assert sent == value
    if len(value.replace("\0", "")) > longest:
        assert sent.endswith("(cut)")
