"""Try which backbones of mmpretrain and mmdet become slimmable by two config lines, and print a table.

python projects/backbone_survey/backbone_table.py --out projects/backbone_survey/README.md
"""

import argparse
import inspect
import sys
from importlib import import_module
from pathlib import Path

from torch import nn

sys.path.insert(0, str(Path(__file__).parent))  # for when it is not run as a script
from slimmability import Verdict, check_slimmable

BEGIN, END = (
    '<!-- begin: projects/backbone_survey/backbone_table.py -->',
    '<!-- end: projects/backbone_survey/backbone_table.py -->',
)

STAGES = dict(out_indices=(0, 1, 2, 3))
TINY = dict(stem_channels=16, base_channels=16, **STAGES)
HRNET = {
    f'stage{i}': dict(
        num_modules=1,
        num_branches=i,
        block='BOTTLENECK' if i == 1 else 'BASIC',
        num_blocks=(1,) * i,
        num_channels=tuple(16 * 2**j for j in range(i)),
    )
    for i in range(1, 5)
}
REPVGG = dict(num_blocks=[1, 2, 1, 1], width_factor=[0.5] * 4, group_layer_map=None, se_cfg=None)
MOBILEONE = dict(num_blocks=[1, 2, 1, 1], width_factor=[0.5] * 4, num_conv_branches=[2] * 4, num_se_blocks=[0] * 4)
VIT = dict(embed_dims=64, num_layers=2, num_heads=4, feedforward_channels=128)
# Arguments for a small variant of a backbone, and `size`, the side of its input in pixels (default 64).
OPTIONS: dict[str, dict[str, dict]] = {
    'mmpretrain': {
        'CSPDarkNet': dict(depth=53),
        'CSPResNet': dict(depth=50),
        'CSPResNeXt': dict(depth=50),
        'HRNet': dict(extra=HRNET),
        'MobileNetV2': dict(out_indices=(2, 4, 7)),
        'MobileNetV3': dict(out_indices=(3, 8, 12)),
        'MobileOne': dict(arch=MOBILEONE, **STAGES),
        'MobileViT': dict(arch='xx_small'),
        'RegNet': dict(arch='regnetx_400mf', **STAGES),
        'RepLKNet': dict(arch='31B'),
        'RepMLPNet': dict(arch='base', size=224),
        'RepVGG': dict(arch=REPVGG, **STAGES),
        'Res2Net': dict(depth=50, base_width=16, **TINY),
        'ResNeSt': dict(depth=50, **TINY),
        'ResNet': dict(depth=50, **TINY),
        'ResNetV1c': dict(depth=50, **TINY),
        'ResNetV1d': dict(depth=50, **TINY),
        'ResNet_CIFAR': dict(depth=18, **TINY),
        'ResNeXt': dict(depth=50, **STAGES),
        'SEResNet': dict(depth=50, **TINY),
        'SEResNeXt': dict(depth=50, **STAGES),
        'ShuffleNetV1': dict(out_indices=(0, 1, 2)),
        'ShuffleNetV2': dict(out_indices=(0, 1, 2)),
        'VGG': dict(depth=11, out_indices=(0, 1, 2, 3, 4), norm_cfg=dict(type='BN')),
        'VisionTransformer': dict(arch=VIT),
    },
    'mmdet': {
        'CSPDarknet': dict(deepen_factor=0.33, widen_factor=0.25),
        'CSPNeXt': dict(deepen_factor=0.33, widen_factor=0.25),
        'DetectoRS_ResNet': dict(depth=50, **TINY),
        'DetectoRS_ResNeXt': dict(depth=50, groups=32),
        'HRNet': dict(extra=HRNET),
        'RegNet': dict(arch='regnetx_400mf'),
        'Res2Net': dict(depth=50, base_width=16, **TINY),
        'ResNeSt': dict(depth=50, **TINY),
        'ResNet': dict(depth=50, **TINY),
        'ResNetV1d': dict(depth=50, **TINY),
        'ResNeXt': dict(depth=50, groups=32),
        'TridentResNet': dict(
            depth=50,
            num_branch=3,
            trident_dilations=(1, 2, 3),
            test_branch_idx=1,
            **TINY | dict(num_stages=3, strides=(1, 2, 2), dilations=(1, 1, 1), out_indices=(2,)),
        ),
    },
}
LIBRARIES = ('mmpretrain', 'mmdet')  # imported when needed: --help need not wait for them
NOT_TRIED = {
    'CSPNet': 'abstract',
    'SparseConvNeXt': 'runs only inside SparK, which sets the mask',
    'SparseResNet': 'runs only inside SparK, which sets the mask',
}
CHECKED_ELSEWHERE = {
    'BackboneMixin': 'no backbone',
    'MobileNetV2_CIFAR': 'other strides than any stock net',
    'VisionTransformer': 'its widths are not prefixes of feature maps; see its own tests',
}


def own_classes() -> dict[str, type]:
    """Return the backbones of us3l_mm by the name of the stock one."""
    from us3l_mm.models import backbones as ours
    from us3l_mm.models.backbones import stock_mmdet

    found = {name: getattr(ours, name) for name in ours.__all__}
    found.update(SlimmableDarknet=stock_mmdet.SlimmableDarknet, SlimmableHRNet=stock_mmdet.SlimmableHRNet)
    return {name.removeprefix('Slimmable'): kind for name, kind in found.items()}


def stock_classes(library: str) -> dict[str, type]:
    """Return the backbones that a library exports, by name."""
    module = import_module(f'{library}.models.backbones')
    kinds = {name: getattr(module, name) for name in sorted(module.__all__, key=str.lower) if name not in NOT_TRIED}
    return {name: kind for name, kind in kinds.items() if inspect.isclass(kind) and issubclass(kind, nn.Module)}


def check_stock(library: str, name: str) -> Verdict:
    """Do :func:`check_slimmable` on a stock backbone with the two config lines."""
    from us3l_mm.config import constructor_parameters

    kind = stock_classes(library)[name]
    options = dict(OPTIONS[library].get(name, {}))
    size = options.pop('size', 64)
    parameters = constructor_parameters(kind)
    for name in ('conv_cfg', 'norm_cfg'):
        if name not in parameters:
            return Verdict('refused', f'takes no {name}')
    # Keep the other options of its norm, such as eps, which belong to the architecture.
    norm_cfg = {**(options.get('norm_cfg') or parameters['norm_cfg'].default), 'type': 'us3l_mm.SlimmableBatchNorm2d'}
    two_lines = dict(conv_cfg=dict(type='us3l_mm.SlimmableConv2d'), norm_cfg=norm_cfg)
    own_conv = (parameters['conv_cfg'].default or {}).get('type', 'layers')
    return check_slimmable(lambda: kind(**options), lambda: kind(**options | two_lines), size, own_conv)


def check_own(kind: type) -> Verdict:
    """Do :func:`check_slimmable` on a backbone of us3l_mm, against the stock one that it extends."""
    stock = next(cls for cls in kind.__mro__ if cls.__module__.split('.')[0] in LIBRARIES)
    options = OPTIONS[stock.__module__.split('.')[0]].get(stock.__name__, {})
    return check_slimmable(lambda: stock(**options), lambda: kind(**options))


def our_class(library: str, name: str) -> str:
    """Name the backbone of us3l_mm that loads the checkpoints of a stock one; empty if there is none."""
    kind = own_classes().get(name)
    if kind is None:
        return ''
    options = OPTIONS[library].get(name, {})
    states = [cls(**options).state_dict() for cls in (kind, stock_classes(library)[name])]
    shapes = [{key: tensor.shape for key, tensor in state.items()} for state in states]
    return f'`{kind.__name__}`' if shapes[0] == shapes[1] else ''


def table(only: list[str] | None = None) -> list[str]:
    """Make the lines of the Markdown table, for all backbones or some by name."""
    own = own_classes()
    todo = [(library, name) for library in LIBRARIES for name in stock_classes(library)]
    todo += [('us3l_mm', f'Slimmable{name}') for name in sorted(own, key=str.lower) if name not in CHECKED_ELSEWHERE]
    unknown = set(only or ()) - {name for _, name in todo}
    if unknown:
        raise SystemExit(
            f'no backbone of the name {", ".join(sorted(unknown))}; see the names in projects/backbone_survey/README.md'
        )
    todo = [(library, name) for library, name in todo if only is None or name in only]
    lines = ['| library | backbone | verdict | why | our class |', '|---|---|---|---|---|']
    for number, (library, name) in enumerate(todo, start=1):
        print(f'[{number}/{len(todo)}] {library} {name}', file=sys.stderr, flush=True)
        if library == 'us3l_mm':
            verdict, ours = check_own(own[name.removeprefix('Slimmable')]), ''
        else:
            verdict, ours = check_stock(library, name), our_class(library, name)
        lines.append(f'| {library} | {name} | {verdict.word} | {verdict.why} | {ours} |')
    return lines


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--only', nargs='+', metavar='NAME', help='backbones to try (default: all)')
    parser.add_argument('--out', type=Path, help='Markdown page in which to replace the table (default: print it)')
    args = parser.parse_args(argv)
    if args.only and args.out:
        parser.error(
            '--only makes a part of the table, which --out would put in place of the whole; leave one of them out'
        )
    return args


def main(argv: list[str] | None = None) -> None:
    args = parse_args(argv)
    page = args.out.read_text() if args.out else f'{BEGIN}{END}'
    if page.count(BEGIN) != 1 or page.count(END) != 1:
        raise SystemExit(f'{args.out} must have the lines {BEGIN} and {END} once each, around the table')
    lines = '\n'.join(table(args.only))
    if args.out is None:
        print(lines)
        return
    before, after = page[: page.index(BEGIN) + len(BEGIN)], page[page.index(END) :]
    args.out.write_text(f'{before}\n{lines}\n{after}')


if __name__ == '__main__':
    main()
