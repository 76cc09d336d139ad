"""The operators behind ``mmcv.ops`` against loops written from their definitions."""

import importlib.util
import math
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import pytest
import torch
from mmcv.ops import RoIAlign, batched_nms, nms, sigmoid_focal_loss

import us3l_mm.compat
from us3l_mm.compat import mmcv_ops, ops
from us3l_mm.compat.mmcv_ops import FallbackExt

fallback_only = pytest.mark.skipif(
    not isinstance(sys.modules['mmcv._ext'], FallbackExt), reason='full mmcv is installed'
)


def random_boxes(generator, count, integer=False):
    corner = torch.rand(count, 2, generator=generator) * 40
    size = torch.rand(count, 2, generator=generator) * 30 + 1
    boxes = torch.cat([corner, corner + size], dim=1)
    return boxes.round() if integer else boxes


def iou(a, b, offset):
    """Exact IoU of two boxes."""
    a, b = ([Fraction(float(value)) for value in box] for box in (a, b))
    width = min(a[2], b[2]) - max(a[0], b[0]) + offset
    height = min(a[3], b[3]) - max(a[1], b[1]) + offset
    inter = max(width, 0) * max(height, 0)
    area = sum((box[2] - box[0] + offset) * (box[3] - box[1] + offset) for box in (a, b))
    return inter / (area - inter) if area != inter else Fraction(0)


def loop_nms(boxes, scores, threshold, offset=0, score_threshold=0.0, max_num=-1):
    order = sorted(range(len(boxes)), key=lambda i: -float(scores[i]))
    keep = []
    for i in order:
        if score_threshold > 0 and float(scores[i]) <= score_threshold:
            continue
        if all(iou(boxes[i], boxes[j], offset) <= threshold for j in keep):
            keep.append(i)
    return keep[:max_num] if max_num > 0 else keep


@pytest.mark.parametrize('offset', [0, 1])
@pytest.mark.parametrize('integer', [False, True])
@pytest.mark.parametrize(
    'limits', [{}, dict(score_threshold=0.3), dict(max_num=5), dict(score_threshold=0.5, max_num=3)]
)
def test_nms_matches_loop(offset, integer, limits):
    generator = torch.Generator().manual_seed(0)
    for threshold in (Fraction(3, 10), Fraction(1, 2), Fraction(7, 10)):
        boxes = random_boxes(generator, 40, integer)
        scores = torch.rand(40, generator=generator)
        dets, keep = nms(boxes, scores, float(threshold), offset=offset, **limits)
        assert keep.tolist() == loop_nms(boxes, scores, threshold, offset, **limits)
        assert torch.equal(dets, torch.cat([boxes[keep], scores[keep, None]], dim=1))


@pytest.mark.parametrize('tenths', range(1, 10))
@pytest.mark.parametrize('offset', [0, 1])
def test_nms_keeps_a_box_exactly_at_the_threshold(tenths, offset):
    # The second box covers tenths / 10 of the first one, so the IoU equals the threshold.
    boxes = torch.tensor([[0.0, 0, 10, 10], [0.0, 0, 10, tenths]])
    boxes[:, 2:] -= offset
    scores = torch.tensor([0.9, 0.8])
    assert nms(boxes, scores, tenths / 10, offset=offset)[1].tolist() == [0, 1]
    assert nms(boxes, scores, tenths / 10 - 0.01, offset=offset)[1].tolist() == [0]


def test_nms_offset_decides_for_touching_boxes():
    # Exclusive ends do not overlap; with inclusive ends (offset 1) the column x = 2 is shared: IoU 3 / 15.
    boxes, scores = torch.tensor([[0.0, 0, 2, 2], [2.0, 0, 4, 2]]), torch.tensor([0.9, 0.8])
    assert nms(boxes, scores, 0.1, offset=0)[1].tolist() == [0, 1]
    assert nms(boxes, scores, 0.1, offset=1)[1].tolist() == [0]


def test_nms_accepts_no_boxes():
    dets, keep = nms(torch.zeros(0, 4), torch.zeros(0), 0.5)
    assert dets.shape == (0, 5) and keep.dtype == torch.int64 and keep.numel() == 0


# Not (True, 10): mmcv splits by class there although it was told not to.
@pytest.mark.parametrize('class_agnostic, split_thr', [(False, 10000), (False, 10), (True, 10000)])
def test_batched_nms_matches_loop_over_classes(class_agnostic, split_thr):
    generator = torch.Generator().manual_seed(1)
    boxes, scores = random_boxes(generator, 50), torch.rand(50, generator=generator)
    labels = torch.randint(0, 3, (50,), generator=generator)
    cfg = dict(type='nms', iou_threshold=0.4, split_thr=split_thr)
    dets, keep = batched_nms(boxes, scores, labels, cfg, class_agnostic=class_agnostic)
    expected = []
    for label in [None] if class_agnostic else range(3):
        inds = [i for i in range(50) if label is None or labels[i] == label]
        expected += [inds[i] for i in loop_nms(boxes[inds], scores[inds], 0.4)]
    assert keep.tolist() == sorted(expected, key=lambda i: -float(scores[i]))
    assert torch.equal(dets, torch.cat([boxes[keep], scores[keep, None]], dim=1))


def bilinear(image, y, x):
    """Value of an (H, W) map at a point; points up to one cell outside take the border, others are 0."""
    height, width = image.shape
    if not (-1 <= y <= height and -1 <= x <= width):
        return 0.0
    y, x = min(max(y, 0.0), height - 1.0), min(max(x, 0.0), width - 1.0)
    top, left = int(y), int(x)
    bottom, right = min(top + 1, height - 1), min(left + 1, width - 1)
    dy, dx = y - top, x - left
    upper = (1 - dx) * image[top, left] + dx * image[top, right]
    lower = (1 - dx) * image[bottom, left] + dx * image[bottom, right]
    return float((1 - dy) * upper + dy * lower)


def loop_roi_align(features, rois, size, scale, sampling, aligned):
    out = torch.zeros(len(rois), features.size(1), *size, dtype=features.dtype)
    for k, (image, *box) in enumerate(rois.tolist()):
        x1, y1, x2, y2 = (value * scale - (0.5 if aligned else 0.0) for value in box)
        height, width = y2 - y1, x2 - x1
        if not aligned:
            height, width = max(height, 1.0), max(width, 1.0)
        bin_h, bin_w = height / size[0], width / size[1]
        grid_h = sampling if sampling > 0 else math.ceil(bin_h)
        grid_w = sampling if sampling > 0 else math.ceil(bin_w)
        for c in range(features.size(1)):
            for i in range(size[0]):
                for j in range(size[1]):
                    values = [
                        bilinear(
                            features[int(image), c],
                            y1 + (i + (a + 0.5) / grid_h) * bin_h,
                            x1 + (j + (b + 0.5) / grid_w) * bin_w,
                        )
                        for a in range(grid_h)
                        for b in range(grid_w)
                    ]
                    out[k, c, i, j] = sum(values) / max(len(values), 1)
    return out


# Inside, partly outside, smaller than a cell, and of no size at all.
ROIS = torch.tensor(
    [[0, 1, 2, 13, 9], [1, -6, -4, 8, 30], [1, 5.3, 6.1, 6.0, 6.6], [0, 4, 4, 4, 4], [0, 0, 0, 40, 40]],
    dtype=torch.float64,
)


@pytest.mark.parametrize('aligned', [True, False])
@pytest.mark.parametrize('sampling', [0, 1, 2])
@pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
def test_roi_align_matches_loop(aligned, sampling, dtype):
    generator = torch.Generator().manual_seed(3)
    features = torch.rand(2, 3, 6, 7, generator=generator, dtype=dtype)
    layer = RoIAlign((2, 3), spatial_scale=0.5, sampling_ratio=sampling, aligned=aligned)
    expected = loop_roi_align(features, ROIS, (2, 3), 0.5, sampling, aligned)
    torch.testing.assert_close(layer(features, ROIS.to(dtype)), expected)


@pytest.mark.parametrize('aligned', [True, False])
@pytest.mark.parametrize('sampling', [0, 2])
def test_roi_align_gradient_matches_finite_differences(aligned, sampling):
    generator = torch.Generator().manual_seed(4)
    features = torch.rand(2, 2, 5, 6, generator=generator, dtype=torch.float64, requires_grad=True)
    layer = RoIAlign((2, 2), spatial_scale=0.5, sampling_ratio=sampling, aligned=aligned)
    assert torch.autograd.gradcheck(lambda x: layer(x, ROIS), (features,))


@fallback_only
def test_roi_align_max_pooling_is_refused():
    with pytest.raises(NotImplementedError, match="pool_mode 'avg' only, got 'max'"):
        RoIAlign(2, pool_mode='max')(torch.rand(1, 1, 4, 4), torch.tensor([[0.0, 0, 0, 3, 3]]))


class ExtFocalLoss(torch.autograd.Function):
    """Drives the pair of operators alone: full mmcv has them on the GPU only."""

    @staticmethod
    def forward(ctx, logits, target, weight, gamma, alpha):
        output = torch.zeros_like(logits)
        ops.sigmoid_focal_loss_forward(logits, target, weight, output, gamma=gamma, alpha=alpha)
        ctx.save_for_backward(logits, target, weight)
        ctx.parameters = dict(gamma=gamma, alpha=alpha)
        return output

    @staticmethod
    def backward(ctx, grad_output):
        logits, target, weight = ctx.saved_tensors
        grad = torch.zeros_like(logits)
        ops.sigmoid_focal_loss_backward(logits, target, weight, grad, **ctx.parameters)
        return grad * grad_output, None, None, None, None


def focal_inputs():
    generator = torch.Generator().manual_seed(5)
    logits = torch.randn(6, 4, generator=generator, dtype=torch.float64) * 3
    # Class 4 is background.
    return logits.requires_grad_(), torch.tensor([0, 1, 2, 3, 4, 4])


@pytest.mark.parametrize('gamma, alpha', [(2.0, 0.25), (1.5, 0.5), (0.0, 0.75)])
def test_focal_loss_matches_loop_and_finite_differences(gamma, alpha):
    logits, target = focal_inputs()
    none = torch.zeros(0, dtype=torch.float64)
    loss = ExtFocalLoss.apply(logits, target, none, gamma, alpha)
    for n in range(6):
        for c in range(4):
            p = 1 / (1 + math.exp(-logits[n, c].item()))
            pt, at = (p, alpha) if target[n] == c else (1 - p, 1 - alpha)
            assert float(loss[n, c]) == pytest.approx(-at * (1 - pt) ** gamma * math.log(pt), rel=1e-9)
    assert torch.autograd.gradcheck(lambda x: ExtFocalLoss.apply(x, target, none, gamma, alpha), (logits,))


def test_focal_loss_class_weight_scales_the_sample():
    logits, target = focal_inputs()
    weight = torch.tensor([1.0, 2.0, 3.0, 4.0], dtype=torch.float64)
    plain = ExtFocalLoss.apply(logits[:4], target[:4], weight[:0], 2.0, 0.25)
    weighted = ExtFocalLoss.apply(logits[:4], target[:4], weight, 2.0, 0.25)
    torch.testing.assert_close(weighted, plain * weight[:, None])
    with pytest.raises(ValueError, match=r'targets in \[0, 4\), got 0\.\.4'):
        ExtFocalLoss.apply(logits, target, weight, 2.0, 0.25)


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16, torch.float32])
def test_focal_loss_is_finite_for_saturated_logits(dtype):
    logits = torch.tensor([[200.0, -200.0]], dtype=dtype, requires_grad=True)
    loss = ExtFocalLoss.apply(logits, torch.tensor([1]), torch.zeros(0), 2.0, 0.25)
    loss.sum().backward()
    assert loss.isfinite().all() and logits.grad.isfinite().all() and (loss > 0).all()


@fallback_only
@pytest.mark.parametrize('reduction', ['none', 'mean', 'sum'])
def test_focal_loss_equals_the_formula_mmdet_uses_on_cpu(reduction):
    from mmdet.models.losses.focal_loss import py_sigmoid_focal_loss

    logits, target = focal_inputs()
    one_hot = torch.nn.functional.one_hot(target, 5)[:, :4]
    expected = py_sigmoid_focal_loss(logits, one_hot, reduction='none')
    # mmcv's mean is over samples, not over elements.
    expected = dict(none=expected, sum=expected.sum(), mean=expected.sum() / 6)[reduction]
    got = sigmoid_focal_loss(logits, target, 2.0, 0.25, None, reduction)
    torch.testing.assert_close(got, expected)
    grads = [torch.autograd.grad(value.sum(), logits)[0] for value in (got, expected)]
    torch.testing.assert_close(*grads)


@fallback_only
def test_other_operators_name_themselves_and_the_fix():
    from mmcv.ops import roi_pool

    with pytest.raises(NotImplementedError, match="'roi_pool_forward' needs full mmcv.*pip install .*mmcv==2.1.0"):
        roi_pool(torch.rand(1, 1, 4, 4), torch.tensor([[0.0, 0, 0, 3, 3]]), 2)


@fallback_only
def test_fallback_answers_mmengine_that_mmcv_is_not_full():
    from mmengine.utils.dl_utils import mmcv_full_available

    assert not mmcv_full_available()


@fallback_only
def test_fallback_is_not_asked_for_by_a_search_for_modules():
    """As mmengine's fork does, which would find it."""
    assert importlib.util.find_spec('mmcv._ext') is not None
    names = [name for name, module in sys.modules.items() if 'mmcv_full_available' in getattr(module, '__dict__', {})]
    asked = [name for name in names if name.startswith('mmengine.')]
    assert {'mmengine.model.utils', 'mmengine.optim.optimizer.default_constructor'} < set(asked)
    assert {sys.modules[name].mmcv_full_available for name in asked} == {mmcv_ops.mmcv_full_available}


def test_compiled_module_is_left_alone(monkeypatch):
    compiled = object()
    monkeypatch.setitem(sys.modules, 'mmcv._ext', compiled)
    mmcv_ops.apply()
    assert sys.modules['mmcv._ext'] is compiled


@pytest.mark.slow
def test_setup_is_idempotent_and_imports_no_model_package():
    package = Path(us3l_mm.compat.__file__).parents[1]
    # A bare parent package, so that only what compat itself imports counts.
    code = f"""
import sys, types
sys.modules['us3l_mm'] = types.ModuleType('us3l_mm')
sys.modules['us3l_mm'].__path__ = [{str(package)!r}]
from us3l_mm.compat import setup
setup()
ext = sys.modules.get('mmcv._ext')
assert not {{'mmdet', 'mmpretrain.models', 'mmpretrain.datasets', 'mmcv.ops'}} & set(sys.modules)
setup.cache_clear()
setup()
assert sys.modules.get('mmcv._ext') is ext
"""
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
