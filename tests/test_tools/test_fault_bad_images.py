"""The sample of tools/fault/bad_images.py finds nothing lost, silent, unnamed or hanging; and it would."""

import numpy as np
import pytest

from builders import load_script


@pytest.mark.slow
def test_sample_finds_nothing(run_tool, capsys):
    run_tool('bad_images', '--sample')
    output = capsys.readouterr().out
    row = next(line for line in output.splitlines() if line.startswith('| all |'))
    tried, right, named, *rest = map(int, row.split('|')[2:-1])
    assert tried == right + named >= 400 and not any(rest)
    assert output.count('| yes |') == 7


def test_each_fault_is_told(tmp_path, monkeypatch):
    script = load_script('bad_images')
    image = np.zeros((4, 4, 3), np.uint8)
    good, bad = (script.Case('kind', 'name', b'', right) for right in (image, None))
    from us3l_mm.datasets import BadImageError

    path = str(tmp_path / 'a.jpg')
    answers = {
        'right': (good, (image, None)),
        'named': (bad, (None, BadImageError(f'{path}: empty'))),
        'lost': (good, (None, BadImageError(f'{path}: empty'))),
        'silent': (bad, (image, None)),
        'unnamed': (bad, (None, ValueError(f'{path}: empty'))),
    }
    for column, (case, answer) in answers.items():
        monkeypatch.setattr(script, 'load', lambda _, answer=answer: answer)
        assert script.judge(case, path)[0] == column
    monkeypatch.setattr(script, 'load', lambda _: (image + 9, None))
    assert script.judge(good, path) == ('silent', '9 levels apart')
    monkeypatch.setattr(script, 'load', lambda _: (None, BadImageError('empty')))
    assert script.judge(bad, path)[0] == 'unnamed'
