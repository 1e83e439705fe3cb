"""What is wrong with a data set, found before a model is trained on it.

```
folders → measure (one look at each file) → findings → page of thumbnails, manifest
```
"""

from training.data.audit.duplicates import (
    NEAR_DUPLICATE_CORRELATION,
    find_contradictions,
    find_leaks,
    find_nearest,
    group_near_duplicates,
    join_groups,
    list_members,
)

__all__ = [
    "NEAR_DUPLICATE_CORRELATION",
    "find_contradictions",
    "find_leaks",
    "find_nearest",
    "group_near_duplicates",
    "join_groups",
    "list_members",
]
