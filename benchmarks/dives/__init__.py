"""A rendered archive of dives: real video files whose classes differ only in what the body does over time."""
