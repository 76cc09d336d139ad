"""mmpretrain beside a transformers that has, or lacks, what its multimodal models import."""

import subprocess
import sys
from pathlib import Path

import mmpretrain
import pytest

from us3l_mm.compat.multimodal import is_there, names_of_transformers

NAMES = names_of_transformers(Path(mmpretrain.__file__).parent)


def test_names_are_those_that_run_at_import(tmp_path):
    (tmp_path / 'a.py').write_text(
        'from transformers import A\n'
        'try:\n    from transformers.x import B, C as D\nexcept ImportError:\n    B = None\n'
        'class E:\n    from transformers.y import F\n    def f(self):\n        from transformers.z import G\n'
        'def g():\n    from transformers import H\n'
        'from transformers_of_others import I\nfrom .transformers import J\n'
    )
    (tmp_path / 'b').mkdir()
    (tmp_path / 'b/c.py').write_text('if True:\n    from transformers.w import K\n')
    expected = {('', 'A'), ('.x', 'B'), ('.x', 'C'), ('.y', 'F'), ('.w', 'K')}
    assert names_of_transformers(tmp_path) == {(f'transformers{module}', name) for module, name in expected}


def test_a_name_is_there_if_it_can_be_imported():
    assert is_there('collections.abc', 'Mapping')
    assert not is_there('collections.abc', 'Nothing') and not is_there('no_such_module', 'name')


@pytest.mark.slow
@pytest.mark.parametrize('lacking', [None, 'apply_chunking_to_forward', 'GenerationMixin'])
def test_models_import_beside_a_transformers_that_lacks_a_name(tmp_path, lacking):
    """A stand-in of transformers: a package of all the names that mmpretrain imports, but one."""
    assert lacking is None or ('transformers.modeling_utils', lacking) in NAMES
    for module, name in sorted(NAMES):
        folder = tmp_path.joinpath(*module.split('.'))
        folder.mkdir(parents=True, exist_ok=True)
        for part in (folder, *folder.parents):
            if tmp_path in part.parents:
                (part / '__init__.py').touch()
        if name != lacking:
            with open(folder / '__init__.py', 'a') as file:
                file.write(f'class {name}: pass\n')
    info = tmp_path / 'transformers-5.17.0.dist-info'
    info.mkdir()
    (info / 'METADATA').write_text('Metadata-Version: 2.1\nName: transformers\nVersion: 5.17.0\n')
    code = (
        f'import sys\nsys.path.insert(0, {str(tmp_path)!r})\n'
        'import us3l_mm\nfrom mmpretrain.utils import dependency\n'
        f'assert dependency.WITH_MULTIMODAL is {lacking is None}\n'
        f'if {lacking is not None}:\n'
        '    import us3l_mm.models\n'
        '    from mmengine.registry import MODELS\n'
        "    MODELS.build(dict(type='us3l_mm.SlimmableResNet', depth=18))\n"
    )
    done = subprocess.run([sys.executable, '-W', 'ignore', '-c', code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
