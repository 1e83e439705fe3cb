"""What cards say in sentences: training fills in the values, pages translate the rest.

A value is a number or a text in single quotation marks, so that a page finds it again.
"""

INTENDED_USE = (
    "Research and teaching: to study classifiers of brain MRI slices and to build software "
    "around them."
)
LIMITS = (
    "Not a medical device and not for diagnosis. It knows only the classes and the public scans "
    "it was trained on: other scanners, sequences, ages and diseases are untested, a healthy "
    "answer does not rule anything out, and an image that is not a brain MRI gets an answer too."
)
LIMITS_WITH_REFUSAL = (
    "Not a medical device and not for diagnosis. It knows only the classes and the public scans "
    "it was trained on: other scanners, sequences, ages and diseases are untested, an answer of no "
    "tumour does not rule anything out, and not every image that is not a brain MRI is recognised "
    "as such."
)
IMPORTED_USE = "Research and teaching. It was made elsewhere and imported here."
IMPORTED_LIMITS = (
    "Not a medical device and not for diagnosis. It was made elsewhere: neither its accuracy nor "
    "its calibration was measured here, nothing is known of the scans it was trained on, and an "
    "image that is not a brain MRI gets an answer all the same."
)
FROZEN_FEATURES = (
    "Only the head was trained, on features that the frozen backbone computed once: scans were "
    "neither augmented nor shown in variants, and seconds per epoch are of the head alone."
)
_NO_EPOCHS = (
    "chosen on the validation part. It takes the features of the frozen backbone, computed once: "
    "scans were neither augmented nor shown in variants, and there were no epochs."
)
MACHINE = f"Scans are classified by a linear support vector machine (C = {{0}}), {_NO_EPOCHS}"
NEIGHBOURS = f"Scans are classified by the nearest of their neighbours ({{0}}), {_NO_EPOCHS}"
NO_HEALTHY_CLASS = (
    "None of the classes {0} is known to mean healthy: whatever a model trained on them answers "
    "counts as a tumour."
)
UNNAMED_TUMOURS = (
    "{0} further scans show a tumour whose kind is not named. Six in seven of them teach a network "
    "that there is one."
)
EXCLUDED = "Left out {0} images that match {1}, as asked."
NEXT_TO_CLASSES = (
    "Left out {0} ({1} images): they are next to the folders of the classes, in none of them."
)
UNKNOWN_CLASS = "Left out {0} ({1} images): its name is not a class known here ({2})."
SENTENCES = (
    INTENDED_USE,
    LIMITS,
    LIMITS_WITH_REFUSAL,
    IMPORTED_USE,
    IMPORTED_LIMITS,
    FROZEN_FEATURES,
    MACHINE,
    NEIGHBOURS,
    NO_HEALTHY_CLASS,
    UNNAMED_TUMOURS,
    EXCLUDED,
    NEXT_TO_CLASSES,
    UNKNOWN_CLASS,
)
