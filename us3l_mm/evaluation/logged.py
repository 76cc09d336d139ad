"""Read the log of a run."""

import json
from pathlib import Path


def last_logged(work_dir: Path, name: str) -> float:
    """Read the last value of a metric that was logged in a work dir.

    Args:
        work_dir (Path): Work dir of one or several runs.
        name (str): Name of the metric, such as ``coco/bbox_mAP``.

    Raises:
        ValueError: If there is none: the evaluation did not run, or the detector found nothing, so that mmdet logged
            no metric.
    """
    logs = sorted(work_dir.glob('*/vis_data/scalars.json'))
    lines = [json.loads(line) for log in logs for line in log.read_text(encoding='utf-8').splitlines()]
    found = [line[name] for line in lines if name in line]
    if not found:
        raise ValueError(
            f'no {name} is logged in {work_dir}: it was not evaluated, or the detector found nothing; '
            'delete the folder and run again'
        )
    return found[-1]
