"""What a monitor measures, against its parts taken by hand, and that the network does not notice."""

import copy
import random

import numpy as np
import pytest
import torch
from mmengine.logging import MessageHub
from mmengine.model import BaseDataPreprocessor
from mmpretrain.structures import DataSample
from torch import nn

import us3l_mm.slim.batchnorm as batchnorm
from builders import ABLATIONS, make_us3l
from us3l_mm.evaluation import knn_accuracy, measure_widths
from us3l_mm.evaluation.monitor_images import BATCH, MonitorImages, kept_random_state
from us3l_mm.models import BatchedViewsPreprocessor
from us3l_mm.models.algorithms import feature_std
from us3l_mm.slim import calibrate_bn, use_width

WIDTHS = [1.0, 0.5]
N = 60


class Noise(torch.utils.data.Dataset):
    """Images of three classes of brightness; two views differ by noise from torch, NumPy and Python."""

    def __init__(self, views=2, count=N):
        self.views, self.count = views, count

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        image = torch.full((3, 8, 8), float(index % 3)) + torch.arange(64).view(8, 8) * (index % 7) / 100
        noisy = [image + 0.1 * torch.rand(3, 8, 8) + 0.1 * np.random.rand() + 0.1 * random.random() for _ in '12']
        sample = DataSample().set_gt_label(index % 3)
        return dict(inputs=noisy[: self.views] if self.views > 1 else image, data_samples=sample)


@pytest.fixture
def model(mmpretrain_scope):
    net = make_us3l(ABLATIONS[13]).float()
    net.data_preprocessor = BaseDataPreprocessor()
    return net


@pytest.fixture
def images():
    return MonitorImages(Noise(), N, 0), MonitorImages(Noise(views=1), N, 0)


def states():
    return random.random(), np.random.rand(), torch.rand(1).item()


def test_random_state_is_given_back():
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    expected = states()
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    with kept_random_state():
        MonitorImages(Noise(), 10, 0)
        states()
    assert states() == expected


def test_images_are_drawn_by_the_seed():
    first, again, other = (MonitorImages(Noise(), 20, seed) for seed in (0, 0, 1))
    views = [torch.cat([batch['inputs'][1] for batch in each.batches]) for each in (first, again, other)]
    assert torch.equal(views[0], views[1]) and not torch.equal(views[0], views[2])
    assert torch.equal(first.labels(), again.labels())
    assert len(first.labels()) == 20 and len(MonitorImages(Noise(), 1000, 0).labels()) == N


def test_no_batch_has_one_image():
    found = MonitorImages(Noise(count=BATCH + 1), BATCH + 1, 0)
    assert sorted(len(batch['inputs'][0]) for batch in found.batches) == [BATCH // 2, BATCH // 2 + 1]


def test_labels_are_asked_for():
    class Unlabelled(Noise):
        def __getitem__(self, index):
            return dict(super().__getitem__(index), data_samples=DataSample())

    with pytest.raises(ValueError, match='needs labels'):
        MonitorImages(Unlabelled(), 4, 0).labels()


def test_views_made_on_the_device_are_the_same_each_time():
    class Bytes(torch.utils.data.Dataset):
        def __len__(self):
            return 6

        def __getitem__(self, index):
            return dict(inputs=torch.full((3, 8, 8), index, dtype=torch.uint8))

    preprocessor = BatchedViewsPreprocessor(
        [[dict(type='RandomFlip', prob=0.5), dict(type='ColorJitter', brightness=0.5)]]
    )
    found, images = [], MonitorImages(Bytes(), 6, 0)
    hub = MessageHub.get_current_instance()
    for iteration in (5, 9):
        hub.update_info('iter', iteration)
        found.append([torch.cat(view) for view in zip(*images.views(preprocessor))])
        assert hub.get_info('iter') == iteration
    assert all(torch.equal(a, b) for a, b in zip(*found))
    assert not torch.equal(*found[0])


def test_model_does_not_notice(model, images):
    calibrate_bn(model.backbone, [0.5], [torch.randn(8, 3, 8, 8)])
    before = copy.deepcopy(model.state_dict())
    found = measure_widths(model, WIDTHS, *images)
    after = model.state_dict()
    assert before.keys() == after.keys() and all(torch.equal(before[key], after[key]) for key in before)
    assert all(part.training for part in model.modules() if part is not model.teacher)
    assert found == measure_widths(model, WIDTHS, *images)


def test_values_are_those_of_a_calibrated_network(model, images):
    found = measure_widths(model, WIDTHS, *images)
    assert list(found) == WIDTHS
    views, labelled = images
    calibrate_bn(model.backbone, WIDTHS, [batch['inputs'][0] for batch in views.batches])
    model.backbone.eval()
    for width in WIDTHS:
        with use_width(model.backbone, width), torch.no_grad():
            embedding = model.neck(model.backbone(views.batches[0]['inputs'][0]))[0]
            features = model.backbone(labelled.batches[0]['inputs'])[-1].mean(dim=(2, 3))
        labels, half = labelled.labels(), N // 2
        parts = features[:half], labels[:half], features[half:], labels[half:]
        values = found[width]
        assert values['feature_std'] == pytest.approx(feature_std(embedding).item(), rel=1e-5)
        assert values['knn'] == pytest.approx(knn_accuracy(*parts, k=20))
        assert values['linear'] > 90  # brightness tells the classes
        assert set(values) == {'feature_std', 'alignment', 'uniformity', 'rankme', 'knn', 'linear'}


def test_one_view_has_no_alignment(model):
    found = measure_widths(model, WIDTHS, MonitorImages(Noise(views=1), N, 0))
    assert set(found[1.0]) == {'feature_std', 'uniformity', 'rankme'}


def test_features_that_are_not_finite_have_no_values(model, images):
    with torch.no_grad():
        model.backbone.conv1.weight.fill_(float('inf'))
    assert measure_widths(model, WIDTHS, *images) == {1.0: {}, 0.5: {}}


def test_one_process_measures_alone(model, images, monkeypatch):
    """Batch norms that share statistics would wait for the other processes for ever."""

    def gather(*args):
        raise AssertionError('a process waits for the others')

    expected = measure_widths(model, WIDTHS, *images)
    for layer in model.backbone.modules():
        if isinstance(layer, batchnorm.SlimmableBatchNorm2d):
            layer.sync = True
    model.neck = nn.SyncBatchNorm.convert_sync_batchnorm(model.neck)  # which works on GPUs only, and in groups
    monkeypatch.setattr(batchnorm, 'all_reduce', gather)
    monkeypatch.setattr(batchnorm, '_several_processes', lambda: True)
    found = measure_widths(model, WIDTHS, *images)
    assert found[0.5] == pytest.approx(expected[0.5], rel=1e-4)
    assert any(isinstance(layer, nn.SyncBatchNorm) for layer in model.neck.modules())
