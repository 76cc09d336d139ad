"""The GPU session: every part leaves rows, and none stops the others."""

import json
import sys
import time

import pytest

from builders import find_script, load_script

pytestmark = pytest.mark.slow
PARTS = ['correctness', 'stages', 'kernels', 'step', 'layers', 'precision', 'views', 'memory', 'r50', 'loader']


@pytest.fixture(scope='module')
def session(tmp_path_factory):
    """Run gpu.py in this process, with tiny sizes and some parts replaced; return what it wrote."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(find_script('gpu').parent)
        script = load_script('gpu')
        import gpu_parts

        def run(*options, **parts):
            folder = tmp_path_factory.mktemp('gpu')
            with pytest.MonkeyPatch.context() as inner:
                for name, part in parts.items():
                    inner.setattr(gpu_parts, name, part)
                argv = ['gpu.py', '--tiny', '--device', 'cpu', '--threads', '1', '--out', str(folder), *options]
                inner.setattr(sys, 'argv', argv)
                script.main()
            found = json.loads((folder / 'gpu.json').read_text())
            table = (folder / 'gpu.md').read_text()
            assert all(f'| {row["part"]} | {row["what"]} |' in table for row in found['rows'])
            assert not list(folder.glob('*.part'))
            return found

        yield run


def test_every_part_leaves_rows(session):
    found = session('--minutes', '10', '--commit', 'abc1234')
    assert found['commit'] == 'abc1234'
    rows = {name: [row for row in found['rows'] if row['part'] == name] for name in PARTS}
    assert all(rows.values()), [name for name in PARTS if not rows[name]]
    assert not [row for row in found['rows'] if row['result'] in ('failed', 'cut off')]
    assert all(row['measured'] == 'needs a GPU' for row in found['rows'] if row['what'].endswith(', graphs'))
    exact = next(row for row in rows['correctness'] if 'eager' in row['what'])
    assert exact['loss'] == exact['weights'] == 0  # the CPU against itself
    listed = next(row for row in rows['kernels'] if row['what'].endswith('all kernels'))['top']
    assert listed == sorted(listed, key=lambda row: -row['ms']) and 'convolution' in str(listed)


def test_parts_that_fail_or_take_too_long_do_not_stop_the_others(session, capsys):
    def fails(report, setup):
        report.add('before', '1')
        with report.attempt('a row'):
            raise ValueError('this row alone')
        raise RuntimeError('all of it')

    def hangs(report, setup):
        report.add('started', '2')
        try:
            time.sleep(60)
        except Exception:  # what code on the way may handle does not hide the alarm
            report.add('swallowed', '')

    def works(report, setup):
        report.add('still here', '3', '3', met=True)

    found = session('--minutes', '0.1', '--only', 'step', 'memory', 'loader', step=fails, memory=hangs, loader=works)
    results = [(row['part'], row['what'], row['result']) for row in found['rows']]
    assert results == [
        ('step', 'before', ''),
        ('step', 'a row', 'failed'),
        ('step', 'the part itself', 'failed'),
        ('memory', 'started', ''),
        ('memory', 'the part itself', 'cut off'),
        ('loader', 'still here', 'met'),
    ]
    assert found['rows'][1]['measured'].startswith('ValueError: this row alone (test_gpu_benchmarks.py:')
    assert '| loader | still here | 3 | 3 | met |' in capsys.readouterr().out


def test_an_unknown_part_is_refused_by_name(session, capsys):
    with pytest.raises(SystemExit):
        session('--only', 'steps')
    assert f"no part is called 'steps'; there are {', '.join(PARTS)}" in capsys.readouterr().err
