"""What is wrong with a data set, found before a model is trained on it.

```
folders → measure (one look at each file) → run → findings → page of thumbnails, manifest
```
"""
