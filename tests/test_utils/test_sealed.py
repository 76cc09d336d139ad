"""Records that tell whether they were changed."""

import pytest

from us3l_mm.utils.sealed import seal, unseal

VALUE = [dict(epoch=3, knn=41.25, checkpoint=None, warnings=['width 0.5 has collapsed']), {}]


def test_what_was_sealed_is_read():
    assert unseal(seal(VALUE), 'it') == VALUE


def test_any_change_is_found():
    sealed = seal(VALUE)
    for place in range(len(sealed)):
        changed = sealed[:place] + chr(ord(sealed[place]) ^ 1) + sealed[place + 1 :]
        with pytest.raises(ValueError, match='the record is not as it was written'):
            unseal(changed, 'the record')
    for cut in range(len(sealed)):
        with pytest.raises(ValueError, match='not as it was written'):
            unseal(sealed[:cut], 'it')


@pytest.mark.parametrize('other', [None, 3, VALUE, b'x', ''])
def test_other_types_are_refused(other):
    with pytest.raises(ValueError, match='it is not as it was written'):
        unseal(other, 'it')
