"""The data sets, one file each: their layouts on disk, and what their authors published."""
