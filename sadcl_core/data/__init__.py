"""Label files, images, splits: everything between a folder on disk and a batch."""
