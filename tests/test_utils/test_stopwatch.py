"""Time goes to what was switched to, on a clock and on a GPU."""

import pytest
import torch

from us3l_mm.utils.stopwatch import Stopwatch


def test_time_goes_to_what_was_switched_to():
    ticks = iter([0.0, 1.0, 3.0, 7.0, 15.0])
    watch = Stopwatch(torch.device('cpu'), lambda: next(ticks))
    for key in ('a', 'b', None, 'a'):
        watch.switch(key)
    assert list(watch.read()) == [('a', 1.0), ('b', 2.0)]
    watch.switch('b')
    assert list(watch.read(wait=True)) == [('a', 8.0)]
    assert list(watch.read()) == []


@pytest.mark.gpu
def test_gpu_is_timed_without_waiting():
    watch = Stopwatch(torch.device('cuda'))
    x = torch.randn(4096, 4096, device='cuda')
    for key, times in (('few', 2), ('many', 40)):
        watch.switch(key)
        for _ in range(times):
            x = (x @ x).tanh()
    watch.switch(None)
    early = dict(watch.read())  # as a rule nothing yet: the CPU is far ahead
    found = {**early, **dict(watch.read(wait=True))}
    assert found['many'] > 5 * found['few'] > 0
