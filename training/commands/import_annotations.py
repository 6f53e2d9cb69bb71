"""tfcovr import-annotations: label files and tables to clips.parquet."""

import sys
from collections.abc import Sequence
from typing import Annotated, Any

from training.annotations.readers.import_clips import (
    ImportConfig,
    ImportFineDiving,
    ImportFineGym,
    ImportTable,
    ImportTfcovr,
    import_annotations,
)

_EXAMPLES = """Read the label files of FineGym, FineDiving or TF-CoVR, or your own table of clips.

Nothing in a file is executed. A bad row ends the run with file, line and column; --skip-bad lists all of them instead. A
video that is not there is listed and counted; its clips stay in clips.parquet unless --only-present is given.

examples:
  tfcovr import-annotations finegym --files.annotations finegym_annotation_info_v1.1.json \\
      --files.splits train gym99_train_element_v1.1.txt val gym99_val_element.txt --videos subactions --out clips.parquet
  tfcovr import-annotations finediving --files.annotations FineDiving_coarse_annotation.pkl \\
      --files.splits train train_split.pkl test test_split.pkl --frames FINADiving_MTL_256s --videos dives --out clips.parquet
  tfcovr import-annotations tfcovr --files.train train.csv --files.val val.csv --files.test test.csv --out clips.parquet
  tfcovr import-annotations table --table my_clips.csv --out clips.parquet
"""


def main(argv: Sequence[str] | None = None) -> int:
    """The command line."""
    import tyro

    choices: Any = (
        Annotated[ImportFineGym, tyro.conf.subcommand("finegym")]
        | Annotated[ImportFineDiving, tyro.conf.subcommand("finediving")]
        | Annotated[ImportTfcovr, tyro.conf.subcommand("tfcovr")]
        | Annotated[ImportTable, tyro.conf.subcommand("table")]
    )
    config: ImportConfig = tyro.cli(
        choices, args=argv, description=_EXAMPLES, prog="tfcovr import-annotations"
    )
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
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
