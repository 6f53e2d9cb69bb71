"""tfcovr import-annotations: the label files of FineGym, FineDiving or TF-CoVR, or your own table of clips, to clips.parquet.

Nothing in a file is executed. A bad row ends the run with file, line and column; --skip-bad lists all of them instead. A
video that is missing is listed and counted; its clips stay in clips.parquet unless --only-present is given.
"""

import sys
from typing import Any

from training.annotations.readers.import_clips import (
    import_annotations,
    import_choices,
    import_examples,
)
from training.annotations.readers.reader import ImportOptions


def __getattr__(name: str) -> Any:
    """Config and EXAMPLES follow READERS, also where a reader is added from outside."""
    if name == "Config":
        return import_choices()
    if name == "EXAMPLES":
        return import_examples()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def run(config: ImportOptions) -> int:
    """Import, and say what was read, what is missing and what was left out. Status 1 where rows or clips were left out."""
    report = import_annotations(config)
    splits = ", ".join(f"{split or 'no split'} {num}" for split, num in report.num_by_split.items())
    sys.stdout.write(
        f"{config.out}: {report.num_clips} clips ({splits}) of {report.num_labels} labels, "
        f"{report.num_triplets} triplets\n"
    )
    for count, what in (
        (report.num_missing_videos, f"videos are missing, of {report.num_clips_of_missing_videos} clips: see {config.out.with_suffix('.missing.txt')}"),
        (report.num_clips_left_out, "clips left out for that"),
        (report.num_bad_rows, f"bad rows left out: see {config.out.with_suffix('.problems.txt')}"),
        (len(report.labels_without_attributes), "labels whose name is not known or says nothing"),
        (report.num_videos_in_several_splits, "videos in more than one split; the first one counts"),
        (report.num_packed, "frame folders packed into videos"),
    ):  # fmt: skip
        if count:
            sys.stdout.write(f"  {count} {what}\n")
    sys.stdout.writelines(f"  note: {note}\n" for note in report.notes)
    return 1 if report.num_bad_rows or report.num_clips_left_out else 0
