"""Label files of public data sets and a user's own tables to clips.

Read in this order: rows, reader, clip_table, label_file, finegym, finediving, tfcovr, label_studio, osl, frame_folders, video_folder, import_clips.
"""

__all__ = [
    "clip_table",
    "finediving",
    "finegym",
    "frame_folders",
    "import_clips",
    "label_file",
    "label_studio",
    "osl",
    "reader",
    "rows",
    "tfcovr",
    "video_folder",
]
