"""A training answers signals by checkpoints, on all its processes, and the resumed one ends as if there was none."""

import multiprocessing
import os
import signal
import threading
import time

import pytest
import torch
import torch.distributed as dist
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from torch.utils.data import Dataset

from us3l_mm.engine import ResumableRunner
from us3l_mm.engine.forks import end_forks_by_sigterm
from us3l_mm.engine.signals import NOTHING, SAVE, STOP, SignalRequests, exit_code

TERM, INT, USR1 = signal.SIGTERM, signal.SIGINT, signal.SIGUSR1


class Numbers(Dataset):
    def __getitem__(self, index):
        return dict(x=torch.tensor([float(index)]))

    def __len__(self):
        return 12


class Line(BaseModel):
    def __init__(self):
        super().__init__()
        self.linear = torch.nn.Linear(1, 1)

    def forward(self, x, mode='tensor'):
        loss = (self.linear(torch.stack(x)) - 1).tanh().pow(2).mean()
        return dict(loss=loss) if mode == 'loss' else [loss]


class Score:
    """Stands for a metric: the weight."""

    dataset_meta = None

    def __init__(self, model, seen):
        self.model, self.seen = model, seen

    def process(self, *args):
        pass

    def evaluate(self, size):
        self.seen.append(float(self.model.linear.weight))
        return dict(score=self.seen[-1])


class Send(Hook):
    """Sends this process a signal at a time: in an iteration of training, or of the validation after an epoch."""

    def __init__(self, number, iteration=None, validation=None):
        self.number, self.iteration, self.validation = number, iteration, validation

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if runner.iter == self.iteration:
            os.kill(os.getpid(), self.number)

    def before_val_iter(self, runner, batch_idx, data_batch=None):
        if (runner.epoch, batch_idx) == self.validation:
            os.kill(os.getpid(), self.number)


def train(work_dir, name, send=None, resume=False, **options):
    """Train 4 epochs of 3 iterations; return the Runner, and the score of each validation."""
    torch.manual_seed(0)  # for the weights
    loader = dict(dataset=Numbers(), batch_size=4, num_workers=0, sampler=dict(type='DefaultSampler', shuffle=True))
    runner = ResumableRunner(
        Line(),
        str(work_dir),
        train_dataloader=loader,
        train_cfg=dict(by_epoch=True, max_epochs=4),
        val_dataloader=loader,
        val_cfg=dict(),
        val_evaluator=dict(type='Evaluator', metrics=[]),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1, momentum=0.9)),
        randomness=dict(seed=0),
        experiment_name=f'{work_dir.name}-{name}',
        resume=resume,
        **{'default_hooks': dict(checkpoint=dict(type='CheckpointHook', interval=4)), **options},
    )
    seen = []
    runner.val_loop.evaluator.metrics.append(Score(runner.model, seen))
    if send is not None:
        runner.register_hook(send)
    try:
        runner.train()
        code = 0
    except SystemExit as error:
        code = error.code
    return runner, seen, code


def test_signals_ask_and_the_stronger_wins():
    before = [signal.getsignal(number) for number in (TERM, INT, USR1)]
    with SignalRequests() as requests:
        assert requests.poll() == (NOTHING, 0)
        os.kill(os.getpid(), USR1)
        assert requests.poll() == (SAVE, USR1)
        assert requests.poll() == (NOTHING, 0)  # served
        os.kill(os.getpid(), USR1)
        os.kill(os.getpid(), TERM)
        assert requests.poll() == (STOP, TERM)
    assert [signal.getsignal(number) for number in (TERM, INT, USR1)] == before


def test_second_sigint_ends_at_once():
    with SignalRequests() as requests:
        os.kill(os.getpid(), TERM)
        os.kill(os.getpid(), INT)  # the first one
        assert requests.poll() == (STOP, INT)
        with pytest.raises(SystemExit) as error:
            os.kill(os.getpid(), INT)
            signal.pause()
    assert error.value.code == exit_code(INT) == 130
    assert exit_code(TERM) == 143


def test_other_threads_take_no_signals():
    def take():
        with SignalRequests():
            seen.append(signal.getsignal(TERM))

    seen, before = [], signal.getsignal(TERM)
    thread = threading.Thread(target=take)
    thread.start()
    thread.join()
    assert seen == [before]


@pytest.mark.parametrize('number, code', [(TERM, -TERM), (INT, 0), (USR1, 0)])
def test_forks_end_by_sigterm_alone(number, code):
    """As a pool's process, which must end when the pool is terminated, and not when a terminal sends SIGINT to all."""
    end_forks_by_sigterm()
    with SignalRequests() as requests:
        child = os.fork()
        if child == 0:
            os.kill(os.getpid(), number)
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == code
        assert requests.poll() == (NOTHING, 0)


def test_forks_end_by_a_sigterm_that_arrives_while_they_start():
    """Else a pool that is terminated soon waits for ever."""
    end_forks_by_sigterm()
    with SignalRequests() as requests:
        children = [multiprocessing.get_context('fork').Process(target=time.sleep, args=(60,)) for _ in range(30)]
        for child in children:
            child.start()
            child.terminate()
            child.join(20)
        assert {child.exitcode for child in children} == {-TERM}
        assert requests.poll() == (NOTHING, 0)
        os.kill(os.getpid(), TERM)  # here it is as before
        assert requests.poll() == (STOP, TERM)


def test_death_of_torchrun_is_a_request_to_stop(monkeypatch):
    monkeypatch.setenv('TORCHELASTIC_RUN_ID', 'run')
    with SignalRequests() as requests:
        assert requests.poll() == (NOTHING, 0)
        monkeypatch.setattr(os, 'getppid', lambda: 1)
        assert requests.poll() == (STOP, TERM)


def poll_as_rank(rank, meeting, sent, answers):
    dist.init_process_group('gloo', init_method=meeting, rank=rank, world_size=2)
    with SignalRequests(timeout=30) as requests:
        found = []
        for iteration in range(6):
            for number in sent.get((rank, iteration), ()):
                os.kill(os.getpid(), number)
            found.append(requests.poll())
        requests.wait_for_all()
    answers.put((rank, found))


@pytest.mark.slow
def test_processes_get_the_same_answer(tmp_path):
    context = multiprocessing.get_context('fork')
    answers = context.SimpleQueue()
    sent = {(1, 1): [USR1], (0, 3): [TERM]}
    meeting = f'file://{tmp_path}/meeting'
    ranks = [context.Process(target=poll_as_rank, args=(rank, meeting, sent, answers)) for rank in range(2)]
    for process in ranks:
        process.start()
    found = dict(answers.get() for _ in ranks)
    for process in ranks:
        process.join()
    # Asked for in iterations 1 and 3, answered in the next ones; the one save is answered once.
    expected = [(NOTHING, 0)] * 2 + [(SAVE, USR1), (NOTHING, 0)] + [(STOP, TERM)] * 2
    assert found == {0: expected, 1: expected}


@pytest.mark.parametrize(
    'send, done',
    [
        (dict(iteration=0), 1),
        (dict(iteration=4), 5),
        (dict(iteration=5), 6),  # the last of an epoch, before its validation
        (dict(validation=(2, 1)), 6),
        (dict(iteration=11), 12),
        (dict(validation=(4, 0)), 12),
    ],
)
@pytest.mark.parametrize('number', [TERM, INT])
def test_training_stops_with_a_checkpoint_and_resumes(number, send, done, tmp_path, capsys):
    whole, scores, code = train(tmp_path / 'whole', 'whole')
    assert code == 0 and len(scores) == 4
    _, before, code = train(tmp_path / 'parts', 'first', Send(number, **send))
    assert code == exit_code(number)
    line = f'{number.name} after iteration {done}: saved {tmp_path}/parts/interrupted.pth, stopping'
    assert capsys.readouterr().out.count(line) == 1
    meta = torch.load(tmp_path / 'parts/interrupted.pth', weights_only=True)['meta']
    assert meta['iter'] == done

    resumed, after, code = train(tmp_path / 'parts', 'second', resume=True)
    assert code == 0 and before + after == scores  # no validation is left out or repeated
    assert torch.equal(resumed.model.linear.weight, whole.model.linear.weight)
    assert resumed.message_hub.get_info('iter') <= 12 and resumed.iter == whole.iter == 12


def test_training_goes_on_after_sigusr1(tmp_path, capsys):
    whole, scores, _ = train(tmp_path / 'whole', 'whole')
    runner, seen, code = train(tmp_path / 'saved', 'saved', Send(USR1, iteration=4))
    assert code == 0 and seen == scores
    assert torch.equal(runner.model.linear.weight, whole.model.linear.weight)
    assert 'SIGUSR1 after iteration 5: saved' in capsys.readouterr().out


def test_training_without_checkpoints_stops_and_says_so(tmp_path, capsys):
    _, _, code = train(tmp_path, 'bare', Send(TERM, iteration=4), default_hooks=dict(checkpoint=None))
    assert code == 143
    assert 'SIGTERM after iteration 5: no CheckpointHook to save it by, stopping' in capsys.readouterr().out
    assert not list(tmp_path.glob('*.pth'))
