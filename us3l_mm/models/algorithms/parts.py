"""Check the parts that self-supervised models share."""

from typing import Any

from us3l_mm.slim import check_part


def check_parts(backbone: Any, neck: Any, head: Any, data_preprocessor: Any = None) -> None:
    """Raise TypeError, with the name of the part, for what is neither a module nor a config of one."""
    for name, part in (('backbone', backbone), ('neck', neck), ('head', head)):
        check_part(name, part)
    if data_preprocessor is not None:
        check_part('data_preprocessor', data_preprocessor, needs_type=False)  # mmpretrain has a default
