"""Augment whole batches of images on the training device."""

import random
from collections.abc import Sequence
from itertools import islice

import torch
import torch.nn.functional as F
from mmengine.dist import get_rank
from mmengine.logging import MessageHub
from mmpretrain.models import SelfSupDataPreprocessor
from torch import Tensor

from us3l_mm.registry import MODELS
from us3l_mm.slim import check_count, check_flag, check_list, check_number
from us3l_mm.utils.captured import Captured

from .random_ops import augmentation
from .transform_options import check_transforms

CAPTURED_VALUES = (
    2**24
)  # of all views or their sources; a graph holds memory for a whole run, and saves little if kernels are long


@MODELS.register_module()
class BatchedViewsPreprocessor(SelfSupDataPreprocessor):
    """Augment a batch of N images of one size as ``MultiView`` does one by one, then normalise it.

    It takes the options of ``MultiView`` and replaces it in the pipeline, or the part of it after the crop: the data
    set gives one uint8 image each, or one for each view. Draws depend only on ``seed``, rank and iteration, so that a
    resumed run repeats them. On a GPU, all that follows the draws is one CUDA graph for each shape of small batches.
    When not training, images are resized to the size of the views.

    Args:
        transforms (Sequence[Sequence[dict]]): Lists of transforms, written as for a pipeline of mmpretrain. Known are
            RandomResizedCrop, RandomFlip, RandomApply, ColorJitter, RandomGrayscale, GaussianBlur and Solarize.
        num_views (int | Sequence[int]): Views that each list makes.
        seed (int): Seed of the draws.
        channels_last (bool): Whether views have that memory format, which convolutions keep.
        **kwargs: As for mmpretrain's ``SelfSupDataPreprocessor``. With ``to_rgb`` images are turned from BGR to RGB
            before they are augmented; without it they must be RGB.

    Raises:
        TypeError: If an option is of the wrong type.
        ValueError: If a transform or an option is unknown or out of range, or views differ in size.
    """

    def __init__(
        self,
        transforms: Sequence[Sequence[dict]],
        num_views: int | Sequence[int] = 2,
        seed: int = 0,
        channels_last: bool = False,
        **kwargs,
    ) -> None:
        for name, interval in (('mean', '(-inf, inf)'), ('std', '(0, inf)')):
            for value in check_list(name, kwargs[name]) if kwargs.get(name) is not None else ():
                check_number(f'each of {name}', value, interval)
        super().__init__(**kwargs)
        for each in check_list('transforms', transforms, (list, tuple)):
            check_transforms(each)
        self.augmentations = [augmentation(each) for each in transforms]
        self.graphs: Captured | None = None
        numbers = num_views if isinstance(num_views, (list, tuple)) else [num_views]
        self.num_views = [check_count('num_views', number, most=100) for number in numbers]
        if len(self.num_views) != len(transforms):
            raise ValueError(f'num_views needs a number for each of {len(transforms)} lists, got {num_views}')
        self.seed = check_count('seed', seed, least=0)
        self.memory_format = (
            torch.channels_last if check_flag('channels_last', channels_last) else torch.contiguous_format
        )
        # A batch of no images, of an unlikely size, shows the size of the views, and a blur too large for them.
        nothing = torch.zeros(0, 3, 251, 257, dtype=torch.uint8)
        sizes = {tuple(view.shape[2:]) for view in self.make_views(nothing, *self.draw([nothing], torch.Generator()))}
        if len(sizes) > 1:
            raise ValueError(f'views must have one size, got {sizes}; give each list a crop of the same scale')
        self.size = None if sizes == {nothing.shape[2:]} else sizes.pop()

    @torch.no_grad()
    def forward(self, data: dict, training: bool = False) -> dict:
        """Preprocess a batch.

        Args:
            data (dict): ``inputs``, uint8 (N, 3, H, W), a list of N images or of such batches, one for each view; and
                ``data_samples``, which may be None.
            training (bool): Whether to augment.

        Returns:
            dict: ``inputs``, the list of views or, if not training, what came in; ``data_samples``.

        Raises:
            RuntimeError: If it is called outside a Runner, which counts the iterations.
            ValueError: If the batch holds neither one uint8 image each nor one for each view.
        """
        images, samples = self._images(data['inputs']), self.cast_data(data.get('data_samples'))
        if not training:
            whole = [self._resized(view) for view in images]
            return super().forward(dict(inputs=whole if len(whole) > 1 else whole[0], data_samples=samples))
        if self.graphs is None and images[0].is_cuda:
            self.graphs = Captured(self)
        drawn = self.draw(images, self._generator())
        with torch.autocast(images[0].device.type, enabled=False):  # half precision would move the crops
            if self.graphs is None or self._values(images[0]) > CAPTURED_VALUES:
                views = self.make_views(*images, *drawn)
            else:
                views = self.graphs('views', self.make_views, *images, *drawn)
        return dict(inputs=views, data_samples=samples)

    def draw(self, images: Sequence[Tensor], generator: torch.Generator) -> list[Tensor]:
        """Draw the numbers of all transforms on the CPU and send them to the device, without waiting.

        Args:
            images (Sequence[Tensor]): One batch (N, 3, H, W) for all views, or one for each.
            generator (torch.Generator): Generator of the CPU.

        Returns:
            list[Tensor]: One (V * N, P) for each list of transforms, with V views of it and P numbers an image.
        """
        drawn, sources = [], iter(self._for_each_view(images))
        for number, step in zip(self.num_views, self.augmentations):
            count, _, *size = list(islice(sources, number))[0].shape
            numbers = step.draw(number * count, size, generator).float()
            numbers = numbers.pin_memory() if images[0].is_cuda else numbers
            drawn.append(numbers.to(images[0].device, non_blocking=True))
        return drawn

    def make_views(self, *tensors: Tensor) -> list[Tensor]:
        """Make normalised views by launches that depend on shapes alone.

        Args:
            *tensors (Tensor): uint8 images as for :meth:`draw`, then what it has drawn for them.

        Returns:
            list[Tensor]: One (N, 3, H', W') for each view.
        """
        images, drawn = tensors[: -len(self.num_views)], tensors[-len(self.num_views) :]
        if self._channel_conversion:
            images = tuple(view.flip(1) for view in images)
        sources = iter(self._for_each_view([view.float() / 255 for view in images]))
        views: list[Tensor] = []
        for number, step, numbers in zip(self.num_views, self.augmentations, drawn):
            views += step.apply(torch.cat(list(islice(sources, number))), numbers).chunk(number)
        if self._enable_normalize:
            views = [(view * 255 - self.mean) / self.std for view in views]
        return [view.contiguous(memory_format=self.memory_format) for view in views]

    def _apply(self, *args, **kwargs) -> 'BatchedViewsPreprocessor':
        """Move to another device, say, where the mean has other memory than a graph has captured."""
        self.graphs = None
        return super()._apply(*args, **kwargs)

    def _values(self, images: Tensor) -> int:
        """Number of values of all views, or of their sources if that is more."""
        height, width = images.shape[2:] if self.size is None else self.size
        return sum(self.num_views) * max(images.numel(), images[:, :, :1, :1].numel() * height * width)

    def _for_each_view(self, images: Sequence[Tensor]) -> list[Tensor]:
        return list(images) * (sum(self.num_views) // len(images))

    def _images(self, inputs: Tensor | list[Tensor]) -> list[Tensor]:
        """Return one batch for all views, or one for each."""
        inputs = self.cast_data(inputs)
        if isinstance(inputs, Tensor):
            inputs = [inputs]
        elif inputs[0].dim() == 3:
            sizes = {tuple(image.shape) for image in inputs}
            if len(sizes) > 1:
                raise ValueError(f'images of a batch must have one size, got {sorted(sizes)}; resize them first')
            inputs = [torch.stack(inputs)]
        wrong = [view for view in inputs if view.dtype != torch.uint8 or view.dim() != 4 or view.shape[1] != 3]
        if wrong or len(inputs) not in (1, sum(self.num_views)):
            found = ', '.join(f'{view.dtype} {tuple(view.shape)}' for view in wrong or inputs)
            raise ValueError(
                f'{type(self).__name__} needs a batch of uint8 images of 3 channels, or one for each of '
                f'{sum(self.num_views)} views, got {found}; compare MultiView in the pipeline with num_views'
            )
        return list(inputs)

    def _resized(self, images: Tensor) -> Tensor:
        if self.size in (None, images.shape[2:]):
            return images
        return F.interpolate(images.float(), self.size, mode='bilinear')

    def _generator(self) -> torch.Generator:
        iteration = MessageHub.get_current_instance().get_info('iter')
        if iteration is None:
            raise RuntimeError(f'{type(self).__name__} draws by the iteration of training, got none; use a Runner')
        draw = random.Random(f'{self.seed}/{get_rank()}/{iteration}')  # a string seed is hashed the same everywhere
        return torch.Generator().manual_seed(draw.getrandbits(63))
