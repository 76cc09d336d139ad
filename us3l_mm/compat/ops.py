"""The compiled mmcv operators that mmdet's common detectors call, written with torch and torchvision.

They have the names and the argument order of ``mmcv._ext``, and write into outputs that the caller allocates.

Obsolete once mmcv ships wheels for current PyTorch: none yet (mmcv 2.2.0).

Shapes: N boxes or samples, K regions, B images, C channels or classes, H and W feature map, h and w output.
"""

import torch
from torch import Tensor

# FLT_MIN of C: mmcv clamps probabilities there before it takes the logarithm.
_FLOAT32_TINY = torch.finfo(torch.float32).tiny


def _torchvision():
    """Return torchvision's compiled operators."""
    import torchvision  # noqa: F401  registers them; here, because it takes half a second

    return torch.ops.torchvision


def nms(boxes: Tensor, scores: Tensor, iou_threshold: float, offset: int = 0) -> Tensor:
    """Non-maximum suppression: drop a box whose IoU with a better one is above the threshold.

    mmcv measures the width of a box as ``x2 - x1 + offset``, also of an overlap, and torchvision as ``x2 - x1``. Moving
    x2 and y2 by ``offset`` first gives mmcv's IoU. With ``offset=1`` and fractional coordinates, rounding differs from
    mmcv's in the last bit.

    Args:
        boxes: (N, 4) as x1, y1, x2, y2 in pixels.
        scores: (N,).
        iou_threshold: In [0, 1].
        offset: 0 or 1, added to widths and heights.

    Returns:
        Indices of the kept boxes by falling score, int64.
    """
    if offset:
        boxes = boxes + boxes.new_tensor([0, 0, offset, offset])
    # mmcv compares in float32, torchvision's CPU kernel in float64, where 0.6 would drop boxes with an IoU of 0.6.
    threshold = torch.tensor(iou_threshold, dtype=torch.float32).item()
    return _torchvision().nms(boxes, scores, threshold)


def roi_align_forward(
    input: Tensor,
    rois: Tensor,
    output: Tensor,
    argmax_y: Tensor,
    argmax_x: Tensor,
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> None:
    """Compute RoIAlign with average pooling.

    Args:
        input: (B, C, H, W).
        rois: (K, 5) as image index, x1, y1, x2, y2 in image pixels.
        output: (K, C, h, w), written in place.
        argmax_y: Unused; for max pooling only.
        argmax_x: Unused; for max pooling only.
        aligned_height: h.
        aligned_width: w.
        spatial_scale: Feature cells per image pixel.
        sampling_ratio: Samples per bin and axis; 0 takes one per feature cell.
        pool_mode: 1 for average pooling; 0 (max pooling) raises.
        aligned: Whether to shift by half a pixel, as detectron2 does.

    Raises:
        NotImplementedError: With max pooling.
    """
    _require_average(pool_mode)
    output.copy_(
        _torchvision().roi_align(input, rois, spatial_scale, aligned_height, aligned_width, sampling_ratio, aligned)
    )


def roi_align_backward(
    grad_output: Tensor,
    rois: Tensor,
    argmax_y: Tensor,
    argmax_x: Tensor,
    grad_input: Tensor,
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> None:
    """Add the gradient of :func:`roi_align_forward` to ``grad_input`` (B, C, H, W), as mmcv's kernels do.

    ``grad_output`` is (K, C, h, w). The other arguments are those of the forward pass.

    Raises:
        NotImplementedError: With max pooling.
    """
    _require_average(pool_mode)
    # torchvision takes h and w, then B, C, H and W.
    sizes = (aligned_height, aligned_width, *grad_input.shape)
    grad_input += _torchvision()._roi_align_backward(grad_output, rois, spatial_scale, *sizes, sampling_ratio, aligned)


def _require_average(pool_mode: int) -> None:
    if pool_mode != 1:
        raise NotImplementedError(
            "RoIAlign without mmcv's compiled operators has pool_mode 'avg' only, got 'max'; "
            "use RoIAlign(pool_mode='avg'), or pip install mmcv==2.1.0 (compiles)"
        )


def sigmoid_focal_loss_forward(
    input: Tensor, target: Tensor, weight: Tensor, output: Tensor, gamma: float, alpha: float
) -> None:
    """Compute the focal loss (Lin et al., arXiv:1708.02002) of each logit.

    With p = sigmoid(x): ``-alpha (1-p)^gamma log p`` at the target class, ``-(1-alpha) p^gamma log(1-p)``
    elsewhere.

    Args:
        input: Logits, (N, C).
        target: Class indices in [0, C], where C is background, (N,).
        weight: Factor of each class, (C,), or empty.
        output: (N, C), written in place.
        gamma: Focusing exponent.
        alpha: Weight of the positive class, in [0, 1].

    Raises:
        ValueError: With ``weight`` and a target outside [0, C), for which mmcv reads past the end of ``weight``.
    """
    p, q, log_p, log_q = _log_probabilities(input)
    positive, factor = _targets(input, target, weight)
    loss = torch.where(positive, -alpha * q**gamma * log_p, -(1 - alpha) * p**gamma * log_q)
    output.copy_(loss * factor)


def sigmoid_focal_loss_backward(
    input: Tensor, target: Tensor, weight: Tensor, grad_input: Tensor, gamma: float, alpha: float
) -> None:
    """Write the gradient of :func:`sigmoid_focal_loss_forward` by the logits into ``grad_input`` (N, C).

    Other arguments and errors are those of the forward pass.
    """
    p, q, log_p, log_q = _log_probabilities(input)
    positive, factor = _targets(input, target, weight)
    grad = torch.where(
        positive,
        -alpha * q**gamma * (q - gamma * p * log_p),
        -(1 - alpha) * p**gamma * (gamma * q * log_q - p),
    )
    grad_input.copy_(grad * factor)


def _log_probabilities(logits: Tensor) -> tuple:
    """Compute p, 1 - p and their clamped logarithms, (N, C) each, half precision in float32."""
    if logits.dtype in (torch.float16, torch.bfloat16):
        logits = logits.float()
    p = logits.sigmoid()
    q = 1 - p
    return p, q, p.clamp(min=_FLOAT32_TINY).log(), q.clamp(min=_FLOAT32_TINY).log()


def _targets(logits: Tensor, target: Tensor, weight: Tensor) -> tuple:
    """Mask of the target class, (N, C), and the factor of each sample, (N, 1) or 1."""
    num_classes = logits.size(1)
    positive = target[:, None] == torch.arange(num_classes, device=target.device)
    if weight.numel() == 0:
        return positive, 1
    if bool(((target < 0) | (target >= num_classes)).any()):
        raise ValueError(
            f'a class-weighted sigmoid focal loss needs targets in [0, {num_classes}), '
            f'got {int(target.min())}..{int(target.max())}; drop background samples or the class weights'
        )
    return positive, weight[target][:, None]
