"""Draw the widths of each training iteration."""

import math
import random
from collections.abc import Sequence

from .options import check_count, check_flag, check_number, check_range
from .width import check_widths

_CLOSEST = 1e-6  # between two widths: keys and labels have six digits


class WidthSampler:
    """Draw the widths of an iteration by the sandwich rule and US3L's dynamic sampling.

    Training is cut into ``num_stages`` equal stages. Stage 0 trains the full width only; in stage s the
    lowest width is ``w_max - s / (num_stages - 1) * (w_max - w_min)``. The draw depends only on
    ``seed`` and the iteration, so that all ranks agree and a resumed run draws the same widths.

    Args:
        width_range (tuple[float, float]): Lowest and highest width.
        num_widths (int): Widths per iteration once narrow ones are trained, at most 1,000.
        dynamic (bool): Whether the lowest width falls stage by stage; otherwise it is ``w_min`` throughout.
        num_stages (int): Stages of dynamic sampling, from 2 to 1,000.
        sandwich (bool): Whether the highest and the lowest width are always drawn.
        seed (int): Seed of the draws, at least 0.
        widths (Sequence[float], optional): Fixed widths, all trained in every iteration unless ``dynamic`` or
            ``slow_start`` leave out the narrow ones. Replaces ``width_range``, ``num_widths`` and ``sandwich``.
        slow_start (float): Fraction of training, in [0, 1), during which only the full width is trained.
            Defaults to 0.
        width_step (float, optional): Spacing of the widths below the highest, at least 0.001, so that there are few
            of them and ``torch.compile`` can reuse its graphs. Defaults to None: any width between the lowest and the
            highest.

    Raises:
        TypeError: If an argument is of the wrong type.
        ValueError: If one is out of its range, or ``width_range`` has no room for ``num_widths`` different widths.

    Source: Cao et al., CVPR 2023 (dynamic sampling); Yu and Huang, ICCV 2019 (sandwich rule); Yu et al.,
    "Slimmable Neural Networks", ICLR 2019 (fixed list); Zhao et al., "Slimmable Networks for Contrastive
    Self-supervised Learning", 2022 (slow start, at half of training).
    """

    def __init__(
        self,
        width_range: tuple[float, float] = (0.25, 1.0),
        num_widths: int = 3,
        dynamic: bool = True,
        num_stages: int = 4,
        sandwich: bool = True,
        seed: int = 0,
        widths: Sequence[float] | None = None,
        slow_start: float = 0.0,
        width_step: float | None = None,
    ) -> None:
        low, high = check_range('width_range', width_range, '(0, 1]')
        self.widths: list[float] | None = None
        if widths is not None:
            self.widths = sorted(check_widths('widths', widths), reverse=True)
            low, high = self.widths[-1], self.widths[0]
        self.width_range = (float(low), float(high))
        self.sandwich = check_flag('sandwich', sandwich)  # first: the next line reads it
        self.num_widths = check_count('num_widths', num_widths, least=2 if sandwich else 1, most=1000)
        self.dynamic = check_flag('dynamic', dynamic)
        self.num_stages = check_count('num_stages', num_stages, least=2, most=1000)
        self.seed = check_count('seed', seed, least=0)
        self.slow_start = check_number('slow_start', slow_start, '[0, 1)')
        self.width_step = width_step
        if width_step is not None:
            check_number('width_step', width_step, '[0.001, 1]')
        self._check_room()

    @property
    def count(self) -> int | None:
        """Number of different widths that training can draw; None if unlimited."""
        if self.widths is not None:
            return len(self.widths)
        if self.width_step is None:
            return None
        lowest = {self.lowest(stage, self.num_stages) for stage in range(self.num_stages)}
        return len(lowest | {*self._between(self.width_range[0], self.width_step), *self.width_range})

    def _check_room(self) -> None:
        """Raise ValueError if there are too few widths to draw from, so that no draw can go on for ever."""
        if self.widths is not None:
            if self.width_step is not None:
                raise ValueError(f'width_step goes without a list of widths, got {self.width_step} and {self.widths}')
            return
        low, high = self.width_range
        if low == high:
            return
        if self.dynamic:
            low = high - (high - low) / (self.num_stages - 1)  # of the first stage that trains narrow widths
        step = self.width_step
        count = int((high - low) / _CLOSEST) if step is None else len(self._between(low, step)) + 2
        if count < self.num_widths:
            raise ValueError(
                f'width_range={self.width_range} and width_step={step} leave {count} widths from {low:g} to {high:g}, '
                f'where num_widths={self.num_widths} are drawn; make width_step, num_stages or num_widths smaller'
            )

    def _between(self, low: float, step: float) -> list[float]:
        """Widths between ``low`` and the highest: the highest less multiples of ``step``."""
        high = self.width_range[1]
        steps = math.ceil((high - low) / step - 1e-9)
        return [round(high - k * step, 9) for k in range(1, steps)]

    def stage(self, epoch: int, max_epochs: int) -> int:
        """Stage of dynamic sampling that ``epoch`` (counted from 0) of ``max_epochs`` belongs to; 0 without stages."""
        return min(self.num_stages - 1, self.num_stages * epoch // max_epochs) if self.dynamic else 0

    def lowest(self, epoch: int, max_epochs: int) -> float:
        """Lowest width trained in ``epoch`` (counted from 0) of ``max_epochs``.

        Raises:
            ValueError: If ``epoch`` is not in [0, max_epochs).
        """
        if not 0 <= epoch < max_epochs:
            raise ValueError(f'epoch must be in [0, {max_epochs}), got {epoch}')
        w_min, w_max = self.width_range
        if epoch < self.slow_start * max_epochs:
            return w_max
        if not self.dynamic:
            return w_min
        last, stage = self.num_stages - 1, self.stage(epoch, max_epochs)
        return w_min if stage == last else w_max - stage / last * (w_max - w_min)

    def __call__(self, iteration: int, epoch: int, max_epochs: int) -> list[float]:
        """Draw the widths of an iteration, the widest first, without duplicates.

        Args:
            iteration (int): Iteration since the start of training, from 0.
            epoch (int): Epoch it belongs to, from 0.
            max_epochs (int): Epochs of the whole training.
        """
        low, high = self.lowest(epoch, max_epochs), self.width_range[1]
        if self.widths is not None:
            return [width for width in self.widths if width >= low - 1e-9]  # low is a sum of rounded numbers
        if low == high:
            return [high]
        draw = random.Random(f'{self.seed}/{iteration}')  # a string seed is hashed the same everywhere
        widths = {high, low} if self.sandwich else set()
        if self.width_step is not None:
            between = self._between(low, self.width_step)
            grid = between if self.sandwich else [high, *between, low]
            widths.update(draw.sample(grid, self.num_widths - len(widths)))
        while len(widths) < self.num_widths:
            widths.add(draw.uniform(low, high))
        return sorted(widths, reverse=True)
