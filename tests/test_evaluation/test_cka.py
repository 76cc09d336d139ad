"""CKA between widths, against its definition by loops and by centred kernels."""

import itertools

import pytest
import torch
from mmengine.model import BaseDataPreprocessor
from mmpretrain.structures import DataSample

from builders import TinyResNet
from us3l_mm.evaluation import extract_features
from us3l_mm.evaluation.cka import WidthCKA, blocks_of, gram, unbiased_hsic
from us3l_mm.models import SlimmableMobileNetV2, SlimmableVisionTransformer
from us3l_mm.slim import calibrate_bn, to_dense, use_width

WIDTHS = (1.0, 0.5, 0.25)


def hsic_by_loops(k, m):
    """U-statistic over all ordered quadruples of different images."""
    total = count = 0
    for i, j, q, r in itertools.permutations(range(len(k)), 4):
        total += k[i, j] * (m[i, j] + m[q, r] - 2 * m[i, q])
        count += 1
    return total / count


def test_hsic_equals_the_mean_over_quadruples():
    torch.manual_seed(0)
    first, second = torch.randn(6, 3, dtype=torch.double), torch.randn(6, 2, dtype=torch.double)
    k, m = first @ first.T, second @ second.T
    assert unbiased_hsic(k, m).item() == pytest.approx(hsic_by_loops(k, m).item())
    assert unbiased_hsic(gram(first + 5), gram(second - 3)).item() == pytest.approx(hsic_by_loops(k, m).item())


def test_many_images_give_the_cka_of_centred_kernels():
    torch.manual_seed(0)
    first = torch.randn(400, 6)
    second = first[:, :4] + 0.5 * torch.randn(400, 4)
    centred = [x - x.mean(dim=0) for x in (first, second)]
    norms = [(x.T @ y).square().sum() for x, y in (centred, centred[:1] * 2, centred[1:] * 2)]  # Kornblith's equation 3
    hsics = [unbiased_hsic(*pair) for a, b in [map(gram, centred)] for pair in ((a, b), (a, a), (b, b))]
    biased, unbiased = ((cross / (one * two).sqrt()).item() for cross, one, two in (norms, hsics))
    assert unbiased == pytest.approx(biased, abs=0.02) and 0.4 < unbiased < 0.95


def test_rotation_and_scale_change_nothing_and_independence_gives_zero():
    torch.manual_seed(0)
    first = torch.randn(300, 5)
    rotation = torch.linalg.qr(torch.randn(5, 5))[0]

    def cka(a, b):
        a, b = gram(a), gram(b)
        return (unbiased_hsic(a, b) / (unbiased_hsic(a, a) * unbiased_hsic(b, b)).sqrt()).item()

    assert cka(first, first) == pytest.approx(1)
    assert cka(first, 3 * first @ rotation) == pytest.approx(1, abs=1e-5)
    assert cka(first, torch.randn(300, 5)) == pytest.approx(0, abs=0.02)


@pytest.fixture(scope='module')
def net():
    torch.manual_seed(0)
    net = TinyResNet()
    calibrate_bn(net, WIDTHS, [torch.randn(8, 3, 8, 8)])
    return net.eval()


def test_widths_are_compared_block_by_block_in_one_pass(net):
    images = torch.randn(13, 3, 8, 8)
    batches = [
        dict(inputs=part, data_samples=[DataSample().set_gt_label(0) for _ in part]) for part in images.split([5, 6, 2])
    ]
    with WidthCKA(net, WIDTHS) as cka:
        features, _ = extract_features(net, WIDTHS, cka.watch(batches), BaseDataPreprocessor())
    assert len(features[0.25]) == 13 and not any(block._forward_hooks for block in net.modules())
    values, names = cka.values(), list(cka.blocks)
    assert names == ['layer1.0', 'layer2.0'] and values[1.0] == pytest.approx([1, 1])
    for j, name in enumerate(names):
        parts = []  # the third batch is too small
        for part in images[:11].split([5, 6]):
            grams = []
            for width in (1.0, 0.5):
                seen = []
                dense = to_dense(net, width).eval()
                dict(dense.named_modules())[name].register_forward_hook(lambda _, __, out, seen=seen: seen.append(out))
                with torch.no_grad():
                    dense(part)
                grams.append(seen[0].flatten(1).double() @ seen[0].flatten(1).double().T)
            a, b = grams
            parts.append([len(part) * hsic_by_loops(*pair) for pair in ((a, b), (a, a), (b, b))])
        cross, one, two = (sum(column) for column in zip(*parts))
        assert values[0.5][j] == pytest.approx((cross / (one * two).sqrt()).item(), abs=1e-4)


def test_features_that_do_not_vary_have_no_cka(net):
    with WidthCKA(net, (1.0, 0.5)) as cka, torch.no_grad():
        for batch in cka.watch([torch.ones(4, 3, 8, 8)]):
            for width in (1.0, 0.5):
                with use_width(net, width):
                    net(batch)
    assert all(value != value for row in cka.values().values() for value in row)


def test_every_kind_of_backbone_has_blocks(net):
    with pytest.raises(ValueError, match='two widths or more'):
        WidthCKA(net, [1.0])
    assert 'layer1.0' in blocks_of(SlimmableMobileNetV2()) and 'conv1' in blocks_of(SlimmableMobileNetV2())
    arch = dict(embed_dims=16, num_layers=2, num_heads=2, feedforward_channels=16)
    assert list(blocks_of(SlimmableVisionTransformer(arch, img_size=16, patch_size=8))) == ['layers.0', 'layers.1']
