"""Verdicts on trainings, each by what makes it."""

import json

import pytest

from builders import us3l_lines, write_run
from us3l_mm.evaluation import judge, training_length
from us3l_mm.evaluation.run_folder import read_run

SUPERVISED = "train_cfg = dict(max_iters=20)\nmodel = dict(type='mmpretrain.ImageClassifier')\n"


@pytest.mark.parametrize(
    ('lines', 'saved', 'word', 'reason'),
    [
        (us3l_lines(3), ['epoch_3.pth'], 'healthy', '3 of 3 epochs'),
        (us3l_lines(2), ['epoch_2.pth'], 'unfinished', '2 of 3 epochs'),
        (us3l_lines(3, std=0.01), ['epoch_3.pth'], 'collapsed', 'feature_std is 0.010'),
        (us3l_lines(2, std=0.01), [], 'collapsed', '2 of 3 epochs'),
        (us3l_lines(3, loss=float('nan')), [], 'diverged', 'loss is nan at iteration 10'),
        ([], [], 'unfinished', 'Nothing is logged'),
        ([], ['epoch_3.pth'], 'finished', '3 of 3 epochs'),
    ],
)
def test_verdict_follows_from_log_and_checkpoints(tmp_path, lines, saved, word, reason):
    verdict = judge(read_run(write_run(tmp_path, lines, saved=saved)))
    assert verdict.word == word and reason in verdict.reason


def test_the_monitor_is_believed_while_it_still_warns(tmp_path):
    monitored = [{'monitor/knn_w1': 10.0, 'step': epoch} for epoch in (1, 2)]
    run = write_run(tmp_path, [*us3l_lines(3), *monitored], saved=['epoch_3.pth'])
    for epoch, word in ((1, 'healthy'), (2, 'collapsed')):
        warnings = [dict(epoch=epoch, text='width 0.5: RankMe is 1.2')]
        (run / 'monitor.json').write_text(json.dumps(dict(best={}, warnings=warnings)))
        verdict = judge(read_run(run))
        assert verdict.word == word
    assert 'RankMe is 1.2' in verdict.reason


def test_length_is_counted_in_iterations_where_the_loop_is(tmp_path):
    lines = [dict(loss=1.0, iter=10, step=10)]
    run = write_run(tmp_path, lines, config=SUPERVISED, head='')
    assert training_length(read_run(run)) == (10, 20, 'iterations')
    (run / 'iter_20.pth').write_bytes(b'')
    assert judge(read_run(run)).word == 'finished'


def test_an_epoch_that_has_begun_is_not_done(tmp_path):
    lines = us3l_lines(3)
    lines[-1]['iter'] = 25
    assert training_length(read_run(write_run(tmp_path, lines)))[0] == 2


def test_report_of_a_value_that_is_not_finite(tmp_path):
    write_run(tmp_path, us3l_lines(2))
    (tmp_path / 'nonfinite').mkdir()
    (tmp_path / 'nonfinite' / 'iter_21_rank_0.json').write_text('{}')
    verdict = judge(read_run(tmp_path))
    assert verdict.word == 'diverged' and 'iter_21_rank_0.json' in verdict.reason
