"""Features of all widths in one pass, against plain narrow networks."""

import torch
from mmengine.registry import MODELS
from mmpretrain.structures import DataSample

from us3l_mm.evaluation import extract_features
from us3l_mm.slim import calibrate_bn, to_dense

WIDTHS = (1.0, 0.5, 0.3)


def test_features_and_labels_keep_order_over_batches():
    net = MODELS.build(dict(type='us3l_mm.SlimmableResNet_CIFAR', depth=18, stem_channels=16, base_channels=16))
    calibrate_bn(net, WIDTHS, [torch.randn(8, 3, 16, 16)])
    preprocessor = MODELS.build(dict(type='mmpretrain.ClsDataPreprocessor', mean=[100.0] * 3, std=[50.0] * 3))
    images, labels = torch.randint(256, (7, 3, 16, 16), dtype=torch.uint8), torch.randint(10, (7,))
    batches = [
        dict(inputs=images[part], data_samples=[DataSample().set_gt_label(int(label)) for label in labels[part]])
        for part in (slice(0, 4), slice(4, 7))
    ]
    features, found = extract_features(net, WIDTHS, batches, preprocessor)
    assert torch.equal(found, labels)
    for width in WIDTHS:
        with torch.no_grad():
            expected = to_dense(net, width).eval()((images.float() - 100) / 50)[-1].mean(dim=(2, 3))
        torch.testing.assert_close(features[width], expected, rtol=1e-5, atol=1e-6)
