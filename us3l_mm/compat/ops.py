"""The compiled mmcv operators that mmdet's common detectors call, on top of torch and torchvision.

Names, argument order and the writing into preallocated outputs are those with which mmcv's Python wrappers
call ``mmcv._ext``. Obsolete once mmcv ships wheels for current PyTorch: none yet (mmcv 2.2.0).

Shape letters: N boxes or samples, K regions, B images, C channels or classes, H and W feature map, h and w
output.
"""

import torch
from torch import Tensor

# What C calls FLT_MIN: mmcv clamps probabilities there before taking the logarithm.
_FLOAT32_TINY = torch.finfo(torch.float32).tiny


def _torchvision():
    """Torchvision's compiled operators, which importing torchvision registers; here, since it takes half a second."""
    import torchvision  # noqa: F401

    return torch.ops.torchvision


def nms(boxes: Tensor, scores: Tensor, iou_threshold: float, offset: int = 0) -> Tensor:
    """Non-maximum suppression, a box being dropped where its IoU with a better one is above the threshold.

    mmcv takes widths as ``x2 - x1 + offset``, also for the overlap. Moving x2 and y2 by ``offset`` gives the
    same numbers with the plain widths of torchvision: ``min(x2, x2') + 1 = min(x2 + 1, x2' + 1)``. With
    ``offset=1`` float32 rounds at another place for coordinates that are no integers, a difference of one
    unit in the last place.

    Args:
        boxes: (N, 4) as x1, y1, x2, y2 in pixels.
        scores: (N,).
        iou_threshold: in [0, 1].
        offset: 0 or 1, added to widths and heights.

    Returns:
        Indices of the kept boxes by falling score, int64.
    """
    if offset:
        boxes = boxes + boxes.new_tensor([0, 0, offset, offset])
    # mmcv compares in float32, torchvision's CPU kernel against a double: 0.6 would drop boxes with an IoU of
    # 0.6.
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
    """RoIAlign with average pooling, written into ``output``.

    Args:
        input: (B, C, H, W).
        rois: (K, 5) as image index, x1, y1, x2, y2 in image pixels.
        output: (K, C, h, w), written in place.
        argmax_y: unused, for max pooling only.
        argmax_x: unused, for max pooling only.
        aligned_height: h.
        aligned_width: w.
        spatial_scale: feature cells per image pixel.
        sampling_ratio: samples a bin and axis; 0 takes one a feature cell.
        pool_mode: 1 for average; 0 (max) is not covered.
        aligned: shift by half a pixel as detectron2 does.

    Raises:
        NotImplementedError: with max pooling.
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
    """Gradient of :func:`roi_align_forward`, added to ``grad_input`` (B, C, H, W) as mmcv's kernels do.

    The other arguments are those of the forward pass; ``grad_output`` is (K, C, h, w).

    Raises:
        NotImplementedError: with max pooling.
    """
    _require_average(pool_mode)
    # torchvision's argument list after the sizes: image count, channels, height, width.
    sizes = (aligned_height, aligned_width, *grad_input.shape)
    grad_input += _torchvision()._roi_align_backward(grad_output, rois, spatial_scale, *sizes, sampling_ratio, aligned)


def _require_average(pool_mode: int) -> None:
    if pool_mode != 1:
        raise NotImplementedError(
            "RoIAlign without mmcv's compiled operators has pool_mode 'avg' only, got 'max'; "
            "use RoIAlign(pool_mode='avg') or install full mmcv: pip install mmcv==2.1.0 (compiles)"
        )


def sigmoid_focal_loss_forward(
    input: Tensor, target: Tensor, weight: Tensor, output: Tensor, gamma: float, alpha: float
) -> None:
    """Focal loss (Lin et al., arXiv:1708.02002) of each logit, written into ``output``.

    With p = sigmoid(x): ``-alpha (1-p)^gamma log p`` at the target class, ``-(1-alpha) p^gamma log(1-p)``
    elsewhere.

    Args:
        input: logits, (N, C).
        target: class indices in [0, C], C being background, (N,).
        weight: factor a class, (C,), or empty.
        output: (N, C), written in place.
        gamma: focusing exponent.
        alpha: weight of the positive class, in [0, 1].

    Raises:
        ValueError: with ``weight`` and a target outside [0, C), where mmcv reads past the end of ``weight``.
    """
    p, q, log_p, log_q = _log_probabilities(input)
    positive, factor = _targets(input, target, weight)
    loss = torch.where(positive, -alpha * q**gamma * log_p, -(1 - alpha) * p**gamma * log_q)
    output.copy_(loss * factor)


def sigmoid_focal_loss_backward(
    input: Tensor, target: Tensor, weight: Tensor, grad_input: Tensor, gamma: float, alpha: float
) -> None:
    """Derivative of :func:`sigmoid_focal_loss_forward` by the logits, written into ``grad_input`` (N, C).

    Arguments and errors are those of the forward pass.
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
    """p, 1 - p and their clamped logarithms, (N, C) each; half precision is computed in float32."""
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
