"""Show what the features of a pretrained network are at several widths, as pictures and tables.

python tools/analysis_tools/analyze_features.py PROBE_CONFIG CALIBRATED_CHECKPOINT --widths 1.0 0.5 0.25

cka: which blocks change with the width. rank: how many dimensions the features use. neighbours: which images change
their nearest neighbours. tsne: a map of the features. retrieval: the neighbours as images. cam: where the evidence for
a class lies, by logistic regression on training images. All go by one pass over test images, at all widths; writes
insight/NAME.png and NAME.json for each.
"""

import argparse
import os.path as osp
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch

from us3l_mm.slim import parse_single_width, use_width
from us3l_mm.utils.arguments import CfgOptions, add_own_data, command_line, count_from, own_data, run_main

WHAT = ['cka', 'rank', 'neighbours', 'tsne', 'retrieval', 'cam']
_PICTURES = 4  # images shown, if none are named
_L2 = 1e-3  # regularisation of the heads behind class activation maps


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='Show what the features of a network are at several widths')
    parser.add_argument(
        'config',
        help='config of a linear probe, which has the labelled images, such as configs/linear/r18_4xb512-60e_in1k.py',
    )
    parser.add_argument(
        'checkpoint',
        help='checkpoint of the pretraining, calibrated by `us3l calibrate`, such as epoch_100_calibrated.pth',
    )
    parser.add_argument('--widths', type=parse_single_width, nargs='+', help='widths; those of the config if not given')
    parser.add_argument(
        '--what', nargs='+', choices=WHAT, default=WHAT, help='what to show, such as cka rank; all if not given'
    )
    parser.add_argument(
        '--num-images', type=count_from(8), default=2000, help='images to look at, drawn with a fixed seed'
    )
    parser.add_argument('--neighbours', type=count_from(1), default=10, help='neighbours of each image')
    parser.add_argument(
        '--method', choices=['tsne', 'umap'], default='tsne', help='how the map is made; umap needs umap-learn'
    )
    parser.add_argument(
        '--images',
        type=count_from(0),
        nargs='+',
        help='images that retrieval and cam show, by their place in the test set, such as 0 17; those whose neighbours '
        'change most if not given',
    )
    add_own_data(parser)
    parser.add_argument('--work-dir', help="folder of insight/, such as work_dirs/x; the checkpoint's if not given")
    parser.add_argument('--device', default='cuda' if torch.cuda.is_available() else 'cpu', help='device')
    parser.add_argument('--cfg-options', nargs='+', action=CfgOptions, help='override config entries: key=value ...')
    args = parser.parse_args()
    if not osp.isfile(args.checkpoint):
        parser.error(f'no such file: {args.checkpoint}')
    if args.method == 'umap' and find_spec('umap') is None:
        parser.error('--method umap needs umap-learn: pip install umap-learn; or take --method tsne')
    return args


@dataclass
class Features:
    """What one pass over the test images gave."""

    args: argparse.Namespace
    cfg: Any
    backbone: torch.nn.Module
    preprocessor: torch.nn.Module
    dataset: Any  # of the images looked at
    classes: list[str]
    by_width: dict[float, torch.Tensor] = field(default_factory=dict)  # (N, C), from the widest
    labels: torch.Tensor = field(default_factory=torch.Tensor)  # (N,)

    @property
    def indices(self) -> list[int]:
        """Place of each image in the whole test set."""
        return self.dataset.indices

    def inputs(self, position: int) -> torch.Tensor:
        """Normalised image (1, 3, H, W)."""
        from mmengine.dataset import default_collate

        return self.preprocessor(default_collate([self.dataset[position]]), False)['inputs']

    def pixels(self, position: int) -> np.ndarray:
        """Image as the network gets it (H, W, 3), normalisation undone."""
        image = self.inputs(position) * getattr(self.preprocessor, 'std', 1) + getattr(self.preprocessor, 'mean', 0)
        return image[0].round().clip(0, 255).to(torch.uint8).permute(1, 2, 0).cpu().numpy()

    def images(self) -> Any:
        """The images, to be drawn."""
        from us3l_mm.visualization.image_insights import Images

        return Images(self.labels, self.classes, self.indices, self.pixels)

    def neighbours(self) -> dict[float, torch.Tensor]:
        """Neighbours (N, k) of each image, by width."""
        from us3l_mm.evaluation.neighbours import other_neighbours

        return {width: other_neighbours(found, self.args.neighbours) for width, found in self.by_width.items()}

    def overlaps(self) -> dict[float, torch.Tensor]:
        """Share (N,) of the neighbours that are the image's at the widest width, by each other width."""
        from us3l_mm.evaluation.neighbours import neighbour_overlap

        (_, widest), *others = self.neighbours().items()
        return {width: neighbour_overlap(widest, found) for width, found in others}

    def shown(self) -> list[int]:
        """Positions of the images that pictures show."""
        if self.args.images is None:
            return list(self.overlaps().values())[-1].argsort(stable=True)[:_PICTURES].tolist()
        missing = [image for image in self.args.images if image not in self.indices]
        if missing:
            raise SystemExit(
                f'images {missing} of --images are not among the {len(self.indices)} looked at; raise --num-images'
            )
        return [self.indices.index(image) for image in self.args.images]


def build(args: argparse.Namespace) -> Features:
    """Read the config, load the backbone and choose the images."""
    from mmengine.registry import DATASETS, MODELS, init_default_scope
    from mmengine.runner import CheckpointLoader

    from us3l_mm.config import OwnData, find_class, read_config, require_data
    from us3l_mm.models import LinearProbe
    from us3l_mm.utils.match_checkpoint import match_checkpoint

    own = OwnData(**own_data(args))
    if own.data_root is not None and own.image_size is None:
        meta = CheckpointLoader.load_checkpoint(args.checkpoint, 'cpu', logger='silent').get('meta') or {}
        sides = set(meta.get('input_size') or ())
        own = replace(own, image_size=sides.pop() if len(sides) == 1 else None)
    cfg = read_config(args.config, args.cfg_options, own)
    kind = find_class((cfg.get('model') or {}).get('type'), cfg.get('default_scope'))
    if not issubclass(kind or object, LinearProbe):
        raise SystemExit(
            f'{args.config} is no linear probe, whose labelled images are needed: give one of configs/linear or '
            'configs/digits/r18_1xb128-20e_digits.py'
        )
    require_data(cfg, ['val_dataloader', *(['train_dataloader'] if 'cam' in args.what else [])])
    init_default_scope(cfg.get('default_scope') or 'mmpretrain')
    cfg.model.widths = sorted(set(args.widths or cfg.model.widths), reverse=True)
    if len(cfg.model.widths) < 2:
        raise SystemExit(f'give two widths at least, which are compared; got {cfg.model.widths}')
    model = MODELS.build(cfg.model)
    found = match_checkpoint(CheckpointLoader.load_checkpoint(args.checkpoint, 'cpu'), model.backbone, args.checkpoint)
    model.backbone.load_state_dict(found.state, strict=False)  # which refuses what does not fit by itself
    dataset = sample(DATASETS.build(cfg.val_dataloader.dataset), args.num_images)
    if len(dataset) <= args.neighbours:
        raise SystemExit(
            f'--neighbours {args.neighbours} of each image need more images than the {len(dataset)} looked at'
        )
    names = dataset.dataset.metainfo.get('classes') or [f'label {i}' for i in range(cfg.model.head.num_classes)]
    model.to(args.device).eval()
    return Features(args, cfg, model.backbone, model.data_preprocessor, dataset, [str(name) for name in names])


def sample(dataset: Any, count: int) -> torch.utils.data.Subset:
    """Draw images of a data set with a fixed seed, in its order; all if there are no more."""
    chosen = np.random.RandomState(0).permutation(len(dataset))[:count]
    return torch.utils.data.Subset(dataset, sorted(chosen.tolist()))


def batches(cfg: Any, dataset: torch.utils.data.Subset) -> Any:
    """Load a data set in its order, with the workers and batches of the test."""
    from mmengine.runner import Runner

    loader = dict(
        cfg.val_dataloader, dataset=dataset, sampler=dict(type='DefaultSampler', shuffle=False), drop_last=False
    )
    return Runner.build_dataloader(loader)


def extract(found: Features) -> dict[str, Any]:
    """Fill in the features, and return the insights that are made on the way."""
    from us3l_mm.evaluation import extract_features
    from us3l_mm.evaluation.cka import WidthCKA
    from us3l_mm.visualization.feature_insights import cka_insight

    widths, loader = found.cfg.model.widths, batches(found.cfg, found.dataset)
    with ExitStack() as stack:
        cka = stack.enter_context(WidthCKA(found.backbone, widths)) if 'cka' in found.args.what else None
        stream = loader if cka is None else cka.watch(loader)
        found.by_width, found.labels = extract_features(found.backbone, widths, stream, found.preprocessor)
    return {} if cka is None else {'cka': lambda: cka_insight(list(cka.blocks), cka.values())}


def rank(found: Features) -> Any:
    from us3l_mm.evaluation.representation import effective_rank
    from us3l_mm.visualization.feature_insights import rank_insight

    ranks = {width: effective_rank(features).item() for width, features in found.by_width.items()}
    return rank_insight(ranks, {w: f.size(1) for w, f in found.by_width.items()}, len(found.labels))


def neighbours(found: Features) -> Any:
    from us3l_mm.visualization.feature_insights import neighbours_insight

    return neighbours_insight(found.overlaps(), found.labels, found.classes, found.args.neighbours, found.indices)


def tsne(found: Features) -> Any:
    from us3l_mm.evaluation.embedding import embed
    from us3l_mm.evaluation.neighbours import planar_agreement
    from us3l_mm.visualization.feature_insights import embedding_insight

    ends = [next(iter(found.by_width)), list(found.by_width)[-1]]
    points = {width: embed(found.by_width[width], found.args.method) for width in ends}
    agreement = {width: planar_agreement(torch.from_numpy(p), found.labels) for width, p in points.items()}
    return embedding_insight(found.args.method, points, agreement, found.labels, found.classes)


def retrieval(found: Features) -> Any:
    from us3l_mm.visualization.image_insights import retrieval_insight

    return retrieval_insight(found.neighbours(), found.images(), found.shown())


def cam(found: Features) -> Any:
    from mmengine.registry import DATASETS

    from us3l_mm.evaluation import extract_features, fit_linear_head
    from us3l_mm.evaluation.activation_map import class_activation
    from us3l_mm.visualization.image_insights import cam_insight

    source = {**found.cfg.train_dataloader.dataset, 'pipeline': found.cfg.val_dataloader.dataset.pipeline}
    train = batches(found.cfg, sample(DATASETS.build(source), found.args.num_images))
    features, labels = extract_features(found.backbone, list(found.by_width), train, found.preprocessor)
    shown, maps, predicted, accuracy = found.shown(), {}, {}, {}
    images = torch.cat([found.inputs(position) for position in shown])
    for width, tested in found.by_width.items():
        head = fit_linear_head(features[width], labels, len(found.classes), _L2)
        guesses = head.scores(tested).argmax(dim=1)
        accuracy[width] = 100 * (guesses == found.labels).double().mean().item()
        predicted[width] = guesses[shown]
        with torch.no_grad(), use_width(found.backbone, width):
            activation = class_activation(found.backbone(images)[-1].cpu(), head.weight)
        maps[width] = activation[torch.arange(len(shown)), predicted[width]]
    return cam_insight(maps, predicted, accuracy, found.images(), shown)


def main() -> None:
    args = parse_args()
    from us3l_mm.visualization.insight import write_insight

    found = build(args)
    made = extract(found)
    makers = dict(rank=rank, neighbours=neighbours, tsne=tsne, retrieval=retrieval, cam=cam)
    folder = Path(args.work_dir or osp.dirname(args.checkpoint)) / 'insight'
    for name in args.what:
        insight = made[name]() if name in made else makers[name](found)
        picture = write_insight(insight, folder, command_line())
        print(f'\n## {insight.title}\n\n{insight.table}\n\n{insight.says}\nsaved {picture} and {picture.stem}.json')


if __name__ == '__main__':
    run_main(main)
