"""Bytes on disk and work beside it: atomic files, images, threads, processes."""
