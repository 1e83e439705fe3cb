"""Many scans at a time: files, folders, URLs and ZIPs → rows of a table, on all cores.

`flask predict` puts the parts together; jobs, and other programs, use `predict`.
"""
