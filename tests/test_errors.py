import pytest

from codecbook import errors


@pytest.mark.parametrize(
    "kind", [errors.CorruptInput, errors.UnsupportedInput, errors.MissingInput, errors.MissingWeights]
)
def test_every_kind_is_caught_as_codecbook_error_and_as_value_error(kind):
    for caught in (errors.CodecbookError, ValueError):
        with pytest.raises(caught, match="received 7"):
            raise kind("received 7")


def test_the_kinds_are_a_closed_set_without_a_common_branch():
    kinds = set(errors.CodecbookError.__subclasses__())
    assert kinds == {errors.CorruptInput, errors.UnsupportedInput, errors.MissingInput, errors.MissingWeights}
    assert not any(kind.__subclasses__() for kind in kinds)
