"""Which PadChest findings the SCARCE-CXR series leaves out, by its reasons.

The names are those of the series' public code (`finetune/_data.py`), in lower case, gathered under
its seven reasons. The series writes the reasons down, not why a name falls under one: `rib
fracture` counts as common and `callus rib fracture` is studied, `granuloma` as non-specific and
`calcified granuloma` is studied. `normal`, which stands in the series' first group, is no finding
here and is left out by its own rule.
"""

from __future__ import annotations

SERIES_EXCLUSIONS: dict[str, tuple[str, ...]] = {
    "says nothing about disease": ("unchanged", "exclude", "suboptimal study"),
    "hardware": (
        *("NSG tube", "endotracheal tube", "tracheostomy tube", "chest drain tube"),
        *("central venous catheter", "central venous catheter via jugular vein"),
        "central venous catheter via subclavian vein",
        "central venous catheter via umbilical vein",
        *("reservoir central venous catheter", "ventriculoperitoneal drain tube", "pacemaker"),
        *("dual chamber device", "single chamber device", "electrical device"),
        *("artificial heart valve", "artificial mitral heart valve"),
        *("artificial aortic heart valve", "heart valve calcified", "aortic endoprosthesis"),
        *("humeral prosthesis", "mammary prosthesis", "osteosynthesis material"),
        *("suture material", "metal"),
    ),
    "surgery": (
        *("sternotomy", "surgery", "surgery neck", "surgery breast", "surgery lung"),
        *("surgery heart", "surgery humeral", "mastectomy", "post radiotherapy changes"),
    ),
    "artefact": ("nipple shadow", "end on vessel", "DAI"),
    "common, large public sets": (
        *("pneumonia", "pleural effusion", "cardiomegaly", "nodule", "atelectasis"),
        *("laminar atelectasis", "emphysema", "scoliosis", "COPD signs", "aortic elongation"),
        "rib fracture",
    ),
    "non-specific descriptor": (
        *("consolidation", "granuloma", "increased density", "chronic changes", "infiltrates"),
        *("calcified densities", "bronchovascular markings", "pseudonodule"),
        *("vascular hilar enlargement", "apical pleural thickening"),
        *("costophrenic angle blunting", "hilar enlargement", "air trapping", "hypoexpansion"),
        *("volume loss", "hyperinflated lung"),
    ),
    "normal variant or age": (
        *("vertebral degenerative changes", "vertebral anterior compression"),
        *("vertebral compression", "kyphosis", "axial hyperostosis", "diaphragmatic eventration"),
        *("azygos lobe", "pectum excavatum", "aortic atheromatosis", "aortic button enlargement"),
        *("descendent aortic elongation", "ascendent aortic elongation"),
        *("supra aortic elongation", "non axial articular degenerative changes"),
        "sclerotic bone lesion",
    ),
}

# Hardware that the series' list does not name. None of it is frequent enough to be studied; as a
# negative it would be told apart by the device.
FURTHER_EXCLUSIONS: dict[str, tuple[str, ...]] = {
    "hardware, not in the series' list": (
        *("abnormal foreign body", "bone cement", "catheter", "double J stent", "endoprosthesis"),
        *("external foreign body", "gastrostomy tube", "nephrostomy tube", "prosthesis"),
    ),
}
