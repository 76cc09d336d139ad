"""One detector for all widths, against stock detectors and plain loops over the widths."""

import copy
import math
import sys

import pytest
import torch
from mmdet.models import FasterRCNN, RetinaNet
from mmdet.testing import demo_mm_inputs
from mmengine.hub import get_config
from mmengine.optim import OptimWrapper
from mmengine.registry import MODELS, DefaultScope

from us3l_mm.compat.mmcv_ops import FallbackExt
from us3l_mm.models.detectors import SlimmableDetector
from us3l_mm.models.detectors.distillation import box_distance, class_divergence, feature_distance
from us3l_mm.slim import SlimmableLayer, calibrate_bn, use_width

SLIM = dict(type='us3l_mm.SlimmableConv2d')
FULL = dict(**SLIM, slim_out=False)
NORM = dict(type='us3l_mm.SlimmableBatchNorm2d')
WEIGHTS = dict(feature=0.5, cls=2.0, box=3.0)
SIZES = [[3, 64, 64], [3, 64, 48]]


@pytest.fixture(autouse=True)
def mmdet_scope():
    return DefaultScope.get_instance('test', scope_name='mmdet')


def retinanet(neck=SLIM, head=FULL, **options):
    """Config of a tiny RetinaNet."""
    model = get_config('mmdet::_base_/models/retinanet_r50_fpn.py').model
    model.neck.update(conv_cfg=neck, in_channels=[16, 32, 64, 128], out_channels=32, **options)
    model.bbox_head.update(num_classes=3, in_channels=32, feat_channels=24, stacked_convs=1, conv_cfg=head)
    return tiny(model)


def faster_rcnn(neck=FULL, **options):
    """Config of a tiny Faster R-CNN."""
    model = get_config('mmdet::_base_/models/faster-rcnn_r50_fpn.py').model
    model.neck.update(conv_cfg=neck, in_channels=[16, 32, 64, 128], out_channels=32, **options)
    model.rpn_head.update(in_channels=32, feat_channels=32)
    model.roi_head.bbox_roi_extractor.out_channels = 32
    model.roi_head.bbox_head.update(num_classes=3, in_channels=32, fc_out_channels=16, roi_feat_size=7)
    model.train_cfg.rpn_proposal.update(nms_pre=50, max_per_img=20)
    model.test_cfg.rpn.update(nms_pre=50, max_per_img=20)
    return tiny(model)


def tiny(model):
    model.backbone = dict(type='us3l_mm.SlimmableResNet', depth=18, stem_channels=16, base_channels=16)
    model.backbone.out_indices = (0, 1, 2, 3)
    return model


DETECTORS = {'RetinaNet': retinanet, 'FasterRCNN': faster_rcnn}


def build(model, **options):
    """Slimmable detector of the config of a stock one, and that stock one with the same weights."""
    reference = MODELS.build(copy.deepcopy(model))
    with torch.no_grad():
        for parameter in reference.parameters():
            if parameter.dim() == 1:
                parameter.normal_(0.5, 0.2)  # class probabilities that matter
    options = {'sampler': dict(dynamic=False), **options}
    slimmable = MODELS.build({**model, 'type': 'us3l_mm.SlimmableDetector', 'detector': model.type, **options})
    slimmable.load_state_dict(reference.state_dict(), strict=True)
    return slimmable.train(), reference.train()


def batch():
    return demo_mm_inputs(2, SIZES, num_classes=3, num_items=[2, 1])


def loop_over_widths(detector, widths, inputs, samples, distill):
    """Loss of each width, with the plain parts of a stock detector."""
    head = detector.rpn_head if hasattr(detector, 'rpn_head') else detector.bbox_head
    target = None
    for width in widths:
        with use_width(detector.backbone, width), use_width(detector.neck, width):
            losses = detector.loss(inputs, copy.deepcopy(samples))
            features = detector.neck(detector.backbone(inputs))
        loss = sum(sum(v) if isinstance(v, list) else v for name, v in losses.items() if 'loss' in name)
        logits, boxes = head(features)
        if target is not None and distill:
            loss = loss + WEIGHTS['feature'] * feature_distance(features, target[0])
            loss = loss + WEIGHTS['cls'] * class_divergence(logits, target[1])
            loss = loss + WEIGHTS['box'] * box_distance(boxes, target[2], target[1], head.cls_out_channels)
        if target is None:
            target = [[level.detach() for level in levels] for levels in (features, logits, boxes)]
        yield loss


@pytest.mark.parametrize(
    ('name', 'distill', 'update'),
    [
        ('RetinaNet', True, 'accumulate'),
        ('RetinaNet', False, 'per_width'),
        ('FasterRCNN', True, 'per_width'),
        ('FasterRCNN', False, 'accumulate'),
    ],
)
def test_iterations_equal_a_loop_over_the_widths(name, distill, update, set_time):
    model, reference = build(DETECTORS[name](), distill=WEIGHTS if distill else None, update=update)
    optimizer = OptimWrapper(torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9))
    sgd = torch.optim.SGD(reference.parameters(), lr=1e-3, momentum=0.9)
    for iteration in range(2):
        set_time(iteration, 2, iteration, 2)
        widths = model.sampler(iteration, iteration, 2)
        assert len(widths) == 3 and widths[0] == 1.0 and widths[-1] == 0.25
        data = reference.data_preprocessor(batch(), True)
        torch.manual_seed(iteration)  # regions are sampled
        losses = []
        for loss in loop_over_widths(reference, widths, data['inputs'], data['data_samples'], distill):
            loss.backward()
            losses.append(loss.item())
            if update == 'per_width':
                sgd.step()
                sgd.zero_grad()
        if update == 'accumulate':
            sgd.step()
            sgd.zero_grad()
        torch.manual_seed(iteration)
        logs = model.train_step(batch(), optimizer)
        for key, expected in (('loss', sum(losses)), ('loss_widest', losses[0]), ('loss_narrowest', losses[-1])):
            assert logs[key].item() == pytest.approx(expected, rel=1e-4)
    expected = reference.state_dict()
    for key, tensor in model.state_dict().items():
        torch.testing.assert_close(tensor, expected[key], rtol=1e-3, atol=1e-5, msg=key)


def test_single_losses_of_the_widest_are_logged(set_time):
    model, _ = build(retinanet())
    set_time(0, 2, 0, 2)
    logs = model.train_step(batch(), OptimWrapper(torch.optim.SGD(model.parameters(), lr=0.0)))
    parts = logs['loss_cls_widest'] + logs['loss_bbox_widest']
    torch.testing.assert_close(parts, logs['loss_widest'])


def test_feature_distance_matches_loops():
    wide = [torch.randn(2, 6, 3, 2), torch.randn(2, 6, 1, 1)]
    narrow = [torch.randn(2, 4, 3, 2), torch.randn(2, 4, 1, 1)]
    levels = []
    for x, target in zip(narrow, wide):
        pairs = [
            (x[n, c, i, j].item(), target[n, c, i, j].item())
            for n in range(2)
            for c in range(4)
            for i in range(x.size(2))
            for j in range(x.size(3))
        ]
        levels.append(sum((a - b) ** 2 for a, b in pairs) / sum(b**2 for _, b in pairs))
    assert feature_distance(narrow, wide).item() == pytest.approx(sum(levels) / 2, rel=1e-5)
    assert feature_distance([10 * x for x in narrow], [10 * x for x in wide]).item() == pytest.approx(sum(levels) / 2)


def test_class_divergence_matches_loops():
    logits, targets = ([torch.randn(2, 4, 3, 2), torch.randn(2, 4, 1, 1)] for _ in range(2))
    divergence = expected = 0.0
    for x, target in zip(logits, targets):
        for a, b in zip(x.flatten().tolist(), target.flatten().tolist()):
            q, p = 1 / (1 + math.exp(-a)), 1 / (1 + math.exp(-b))
            divergence += p * math.log(p / q) + (1 - p) * math.log((1 - p) / (1 - q))
            expected += p
    assert class_divergence(logits, targets).item() == pytest.approx(divergence / expected, rel=1e-4)
    assert class_divergence(targets, targets).item() == 0


def test_box_distance_matches_loops():
    anchors, classes = 2, 3
    shapes = [(2, 3, 2), (2, 1, 1)]
    boxes, targets = ([torch.randn(n, anchors * 4, h, w) * 2 for n, h, w in shapes] for _ in range(2))
    logits = [torch.randn(n, anchors * classes, h, w) for n, h, w in shapes]
    distance = total = 0.0
    for x, target, scores in zip(boxes, targets, logits):
        for n in range(x.size(0)):
            for a in range(anchors):
                for i in range(x.size(2)):
                    for j in range(x.size(3)):
                        best = max(scores[n, a * classes + k, i, j].item() for k in range(classes))
                        weight = 1 / (1 + math.exp(-best))
                        total += weight
                        for b in range(4 * a, 4 * a + 4):
                            d = abs(x[n, b, i, j].item() - target[n, b, i, j].item())
                            distance += weight * (0.5 * d**2 if d < 1 else d - 0.5)
    assert box_distance(boxes, targets, logits, classes).item() == pytest.approx(distance / total, rel=1e-5)


@pytest.mark.parametrize(
    ('model', 'stock'),
    [
        (lambda: retinanet(), RetinaNet),
        (lambda: retinanet(neck=FULL, head=None), RetinaNet),
        (lambda: retinanet(norm_cfg=NORM), RetinaNet),
        (lambda: faster_rcnn(), FasterRCNN),
    ],
    ids=['RetinaNet', 'RetinaNet, neck of full width', 'RetinaNet, neck with batch norm', 'FasterRCNN'],
)
@pytest.mark.parametrize('width', [1.0, 0.3])
def test_predictions_equal_those_of_the_dense_stock_detector(model, stock, width):
    # Rounding must not decide which boxes overlap too much; the compiled operators of full mmcv take float32 alone.
    dtype = torch.float64 if isinstance(sys.modules['mmcv._ext'], FallbackExt) else torch.float32
    slimmable = build(model())[0].to(dtype)
    data = slimmable.data_preprocessor(batch(), False)
    data['inputs'] = data['inputs'].to(dtype)
    calibrate_bn(slimmable.slimmable_part(), [1.0, 0.3], [data['inputs']])
    dense = slimmable.eval().dense(width)
    assert type(dense) is stock and isinstance(slimmable, stock)
    assert not any(isinstance(layer, SlimmableLayer) for layer in dense.modules())
    for detector in (slimmable, dense):
        (detector.test_cfg.rcnn if stock is FasterRCNN else detector.test_cfg).score_thr = 0.0
    with torch.no_grad():
        with use_width(slimmable.slimmable_part(), width):
            features = slimmable.extract_feat(data['inputs'])
            expected = slimmable(**copy.deepcopy(data), mode='predict')
        for level, other in zip(features, dense.extract_feat(data['inputs']), strict=True):
            torch.testing.assert_close(other, level)
        results = dense(**copy.deepcopy(data), mode='predict')
    for result, other in zip(results, expected, strict=True):
        assert 0 < len(result.pred_instances) == len(other.pred_instances)
        torch.testing.assert_close(result.pred_instances.bboxes, other.pred_instances.bboxes)
        torch.testing.assert_close(result.pred_instances.scores, other.pred_instances.scores)


def test_weights_of_a_plain_detector_fit():
    model = retinanet()
    plain = copy.deepcopy(model)
    plain.backbone.type = 'mmpretrain.ResNet'
    plain.neck.conv_cfg = plain.bbox_head.conv_cfg = None
    plain = MODELS.build(plain).eval()
    slimmable, _ = build(model)
    slimmable.load_state_dict(plain.state_dict(), strict=True)
    for part in slimmable.slimmable_part().modules():
        if hasattr(part, 'calibrated'):
            part.calibrated.add('1')  # zeros and ones, as in the plain one
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        for levels, others in zip(slimmable.eval()(images), plain(images), strict=True):
            for level, other in zip(levels, others, strict=True):
                assert torch.equal(level, other)


def test_a_copy_trains_as_the_original(set_time):
    model, _ = build(retinanet(), distill=WEIGHTS)
    twin = copy.deepcopy(model)
    assert type(twin) is type(model) and isinstance(twin, SlimmableDetector)
    set_time(0, 2, 0, 2)
    logs = [m.train_step(batch(), OptimWrapper(torch.optim.SGD(m.parameters(), lr=1e-3))) for m in (model, twin)]
    assert logs[0]['loss'] == logs[1]['loss']


def test_every_parameter_of_the_full_detector_trains(set_time):
    model, _ = build(faster_rcnn(), distill=WEIGHTS)
    set_time(0, 2, 0, 2)
    wrapper = OptimWrapper(torch.optim.SGD(model.parameters(), lr=0.0))
    wrapper.zero_grad = lambda: None
    model.train_step(batch(), wrapper)
    assert not [name for name, parameter in model.named_parameters() if parameter.grad is None]


def plain_backbone():
    model = retinanet()
    model.backbone.width = 1.0
    return model


@pytest.mark.parametrize(
    ('model', 'options', 'message'),
    [
        (lambda: retinanet(head=None), {}, r'heads of RetinaNet read \[32.*get \[8'),
        (lambda: faster_rcnn(neck=SLIM), {}, r'heads of FasterRCNN read .*slim_out=False'),
        (lambda: retinanet(neck=None), {}, r'cannot run at width 0\.25.*us3l_mm\.SlimmableConv2d'),
        (lambda: retinanet(norm_cfg=dict(type='BN')), {}, r'cannot run at width 0\.25.*SlimmableBatchNorm2d'),
        (plain_backbone, {}, 'the backbone of RetinaNet, SlimmableResNet, has no slimmable layer'),
        (retinanet, dict(distill=dict(logits=1.0)), r"distill must give weights of .*got \{'logits': 1\.0\}"),
        (retinanet, dict(detector='RetinaNot'), "detector must name a detector of mmdet.*got 'RetinaNot'"),
        (retinanet, dict(update='sometimes'), "update must be one of .* got 'sometimes'"),
    ],
)
def test_what_cannot_work_is_refused(model, options, message):
    model = model()
    options = {'type': 'us3l_mm.SlimmableDetector', 'detector': model.type, **options}
    with pytest.raises(ValueError, match=message):
        MODELS.build({**model, **options})


def test_batch_norm_in_heads_is_refused():
    model = retinanet()
    model.bbox_head.norm_cfg = dict(type='BN')
    with pytest.raises(ValueError, match='batch norm in the heads of RetinaNet would mix the statistics'):
        build(model)


def test_softmax_class_outputs_are_not_distilled():
    model = retinanet()
    model.bbox_head.loss_cls = dict(type='CrossEntropyLoss')
    with pytest.raises(ValueError, match='RetinaHead of RetinaNet is not; give a weight to `feature` only'):
        build(model, distill=dict(box=1.0))
    build(model, distill=dict(feature=1.0, cls=0.0))


def test_loss_outside_an_iteration_names_the_wrapper():
    model, _ = build(retinanet())
    data = model.data_preprocessor(batch(), True)
    with pytest.raises(RuntimeError, match=r'SlimmableDetector trains several widths .*US3LDistributedDataParallel'):
        model(**data, mode='loss')
